//! The service that lists each VM's addresses to that VM: the wire server, or instance metadata.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Fault, Listing,
    http::{HttpRequest, HttpServer, Reply},
};
use crate::{
    error::Result,
    ip::configure,
    namespace::{Entrance, Namespace},
    station::{Host, Station},
};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// 168.63.129.16:80, in XML.
    WireServer,
    /// 169.254.169.254:80, in JSON.
    Imds,
}

const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

impl Service {
    /// What `pool.source` calls it.
    pub fn source(self) -> &'static str {
        match self {
            Self::WireServer => "wireserver",
            Self::Imds => "imds",
        }
    }

    /// Whether the real service would answer this request.
    fn expects(self, request: &HttpRequest) -> bool {
        match self {
            Self::WireServer => request.line == "GET /machine/plugins?comp=nmagent&type=getinterfaceinfov1",
            Self::Imds => {
                let line = request.line == "GET /metadata/instance/network?api-version=2021-02-01";
                line && request.headers.lines().any(|header| header == "metadata: true")
            }
        }
    }

    fn document(self, listing: &Listing) -> String {
        match self {
            Self::WireServer => listing.xml(),
            Self::Imds => listing.imds().to_string(),
        }
    }
}

#[derive(Default)]
struct State {
    listings: BTreeMap<IpAddr, Listing>,
    fault: Option<Fault>,
    requests: u64,
}

/// The service of a network. Everything may be changed while it runs.
pub struct Lister {
    service: Service,
    entrance: Entrance,
    state: Arc<Mutex<State>>,
    server: Mutex<Option<HttpServer>>,
}

impl Lister {
    /// At the service's own address, on the platform's host.
    pub(crate) fn start(service: Service, platform: &Host, router: &Namespace, vms: &[Host]) -> Result<Self> {
        if service == Service::Imds {
            configure(platform.namespace(), &format!("addr add {METADATA}/32 dev lo"))?;
            configure(router, &format!("route add {METADATA}/32 via {} dev platform", platform.address()))?;
        }
        let entrance = platform.namespace().entrance()?;
        let listings = vms.iter().map(|vm| (vm.address().into(), Listing::of(vm.place()))).collect();
        let state = Arc::new(Mutex::new(State { listings, ..State::default() }));
        let lister = Self { service, entrance, state, server: Mutex::new(None) };
        lister.up()?;
        Ok(lister)
    }

    /// Which service it is.
    pub fn service(&self) -> Service {
        self.service
    }

    /// Changes what is listed to a VM.
    pub fn change(&self, vm: &dyn Station, change: impl FnOnce(&mut Listing)) {
        let mut state = lock(&self.state);
        change(state.listings.get_mut(&vm.address().into()).expect("every VM has a listing"));
    }

    /// Fails from now on in this way; `None`: no more.
    pub fn fail(&self, fault: Option<Fault>) {
        lock(&self.state).fault = fault;
    }

    /// How many requests have come.
    pub fn requests(&self) -> u64 {
        lock(&self.state).requests
    }

    /// Stops to listen.
    pub fn down(&self) {
        drop(lock(&self.server).take());
    }

    /// Listens again.
    pub fn up(&self) -> Result<()> {
        let address: SocketAddr = match self.service {
            Service::WireServer => ([168, 63, 129, 16], 80).into(),
            Service::Imds => (METADATA, 80).into(),
        };
        let (service, state) = (self.service, Arc::clone(&self.state));
        let server = HttpServer::start(&self.entrance, address, move |request| answer(service, &state, request))?;
        *lock(&self.server) = Some(server);
        Ok(())
    }
}

fn answer(service: Service, state: &Mutex<State>, request: &HttpRequest) -> Reply {
    let mut state = lock(state);
    state.requests += 1;
    if !service.expects(request) {
        return Reply::whole("400 Bad Request", "", "");
    }
    let Some(listing) = state.listings.get(&request.from) else { return Reply::whole("403 Forbidden", "", "") };
    let document = service.document(listing);
    match state.fault {
        Some(fault) => fault.spoil(&document),
        None => Reply::whole("200 OK", "", &document),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
