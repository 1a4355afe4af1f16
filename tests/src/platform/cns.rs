//! azure-cns on a VM, at localhost:10090: it gives pods the VM's secondary addresses and takes them back.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::http::{HttpRequest, HttpServer, Reply};
use crate::{error::Result, namespace::Entrance, station::Station, vm::Vm};

/// A request to it.
#[derive(Debug, Clone, PartialEq)]
pub struct CnsCall {
    /// Such as `/network/requestipconfigs`.
    pub path: String,
    /// The body.
    pub body: Value,
}

#[derive(Default)]
struct State {
    own: Option<Ipv4Addr>,
    free: Vec<Ipv4Addr>,
    /// By the pod's interface id.
    held: BTreeMap<String, Ipv4Addr>,
    calls: Vec<CnsCall>,
    old: bool,
    refusal: Option<i64>,
    /// The delay of answers to requests for addresses.
    late: Duration,
    bend: Option<Bend>,
}

/// Changes the list of what a pod is given before it is sent.
type Bend = Box<dyn Fn(&mut Value) + Send>;

/// A server. It keeps its state while it is down.
pub struct Cns {
    entrance: Entrance,
    state: Arc<Mutex<State>>,
    server: Mutex<Option<HttpServer>>,
}

impl Cns {
    /// Starts one on the VM.
    pub fn start(vm: &Vm) -> Result<Self> {
        let state = State { own: Some(vm.address()), free: vm.pool().to_vec(), ..State::default() };
        let entrance = vm.namespace().entrance()?;
        let cns = Self { entrance, state: Arc::new(Mutex::new(state)), server: Mutex::new(None) };
        cns.up()?;
        Ok(cns)
    }

    /// The addresses that it holds for pods, by their interface ids.
    pub fn held(&self) -> BTreeMap<String, Ipv4Addr> {
        lock(&self.state).held.clone()
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<CnsCall> {
        lock(&self.state).calls.clone()
    }

    /// Supports only the calls for a single address, as old servers do.
    pub fn be_old(&self) {
        lock(&self.state).old = true;
    }

    /// Refuses everything with this code; `None`: no more.
    pub fn refuse(&self, code: Option<i64>) {
        lock(&self.state).refusal = code;
    }

    /// Executes requests for addresses, and delays the answers.
    pub fn answer_late(&self, by: Duration) {
        lock(&self.state).late = by;
    }

    /// Answers with what `change` makes of the list of addresses from now on.
    pub fn bend(&self, change: impl Fn(&mut Value) + Send + 'static) {
        lock(&self.state).bend = Some(Box::new(change));
    }

    /// Stops to listen.
    pub fn down(&self) {
        drop(lock(&self.server).take());
    }

    /// Listens again.
    pub fn up(&self) -> Result<()> {
        let state = Arc::clone(&self.state);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 10090));
        let server = HttpServer::start(&self.entrance, address, move |request| answer(&mut lock(&state), request))?;
        *lock(&self.server) = Some(server);
        Ok(())
    }
}

fn answer(state: &mut State, request: &HttpRequest) -> Reply {
    let Ok(body) = serde_json::from_str::<Value>(&request.body) else { return Reply::whole("400 Bad Request", "", "") };
    let path = request.line.strip_prefix("POST ").unwrap_or_default();
    state.calls.push(CnsCall { path: path.into(), body: body.clone() });
    let id = body["podInterfaceID"].as_str().unwrap_or_default().to_owned();
    let (answer, after) = match (path, state.old) {
        ("/network/requestipconfigs", false) => (state.request(id, &body, "podIPInfo", true), state.late),
        ("/network/requestipconfig", true) => (state.request(id, &body, "PodIpInfo", false), state.late),
        ("/network/releaseipconfigs", false) | ("/network/releaseipconfig", true) => {
            (state.release(&id), Duration::ZERO)
        }
        _ => return Reply::whole("404 Not Found", "", "404 page not found\n"),
    };
    Reply { after, ..Reply::whole("200 OK", "Content-Type: application/json\r\n", &answer.to_string()) }
}

impl State {
    /// The desired address if it is free, else another.
    fn request(&mut self, id: String, body: &Value, key: &str, list: bool) -> Value {
        if let Some(code) = self.refusal {
            return json!({key: null, "response": response(code)});
        }
        let desired = body["desiredIPAddresses"][0].as_str();
        if let Some(at) = self.free.iter().position(|free| desired == Some(free.to_string().as_str())) {
            let last = self.free.len() - 1;
            self.free.swap(at, last);
        }
        let Some(address) = self.held.get(&id).copied().or_else(|| self.free.pop()) else {
            return json!({key: null, "response": response(32)});
        };
        self.held.insert(id, address);
        let info = json!({
            "PodIPConfig": {"IPAddress": address, "PrefixLength": 16},
            "NetworkContainerPrimaryIPConfig": {
                "IPSubnet": {"IPAddress": "10.240.0.0", "PrefixLength": 16}, "DNSServers": null,
                "GatewayIPAddress": "10.240.0.1"},
            "HostPrimaryIPInfo": {"Gateway": "10.240.0.1", "PrimaryIP": self.own, "Subnet": "10.240.0.0/16"},
            "NICType": "InfraNIC", "SkipDefaultRoutes": false, "Routes": null,
        });
        let mut infos = json!([info]);
        self.bend.iter().for_each(|bend| bend(&mut infos));
        json!({key: if list { infos } else { infos[0].take() }, "response": response(0)})
    }

    fn release(&mut self, id: &str) -> Value {
        if let Some(code) = self.refusal {
            return json!({"response": response(code)});
        }
        self.free.extend(self.held.remove(id));
        json!({"response": response(0)})
    }
}

fn response(code: i64) -> Value {
    json!({"ReturnCode": code, "Message": if code == 0 { "" } else { "as configured" }})
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
