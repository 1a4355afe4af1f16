//! The runtime's arguments for the pod: `CNI_ARGS`, and `args.cni` of the configuration, which wins.
//!
//! Unknown keys are kept and never refused, with or without `IgnoreUnknown`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{CniError, excerpt};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs(BTreeMap<String, String>);

impl CniArgs {
    /// `variable` is `K=V;K=V`, `from_config` the object `args.cni`.
    pub(super) fn parse(variable: Option<&str>, from_config: Option<&Map<String, Value>>) -> Result<Self, CniError> {
        let mut pairs = BTreeMap::new();
        for pair in variable.unwrap_or_default().split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                let msg = format!("CNI_ARGS has {} where K=V is expected", excerpt(&pair.into()));
                return Err(CniError::environment(msg));
            };
            pairs.insert(key.to_owned(), value.to_owned());
        }
        for (key, value) in from_config.into_iter().flatten() {
            // Lists and objects (such as `labels`) cannot be given in CNI_ARGS and have no meaning here.
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            pairs.insert(key.clone(), value);
        }
        Ok(Self(pairs))
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn pod_name(&self) -> Option<&str> {
        self.get("K8S_POD_NAME")
    }

    pub fn pod_namespace(&self) -> Option<&str> {
        self.get("K8S_POD_NAMESPACE")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(variable: &str) -> Result<CniArgs, CniError> {
        CniArgs::parse(Some(variable), None)
    }

    #[test]
    fn pairs_are_read_in_any_order_and_unknown_keys_are_kept() {
        let kubelets = args("K8S_POD_NAME=p;IgnoreUnknown=1;Colour=red;K8S_POD_NAMESPACE=n;").unwrap();
        assert_eq!((kubelets.pod_namespace(), kubelets.pod_name()), (Some("n"), Some("p")));
        assert_eq!(kubelets.get("Colour"), Some("red"));
        // Docker's script of the reference sends no IgnoreUnknown.
        assert_eq!(args("K8S_POD_NAME=p").unwrap().pod_name(), Some("p"));
        assert_eq!(args("A=b=c;A=d").unwrap().get("A"), Some("d"));
        assert_eq!(args("K8S_POD_NAME=").unwrap().pod_name(), None);
        assert_eq!(args("").unwrap(), CniArgs::default());
    }

    #[test]
    fn a_pair_without_equals_sign_is_an_environment_error() {
        let error = args("A=b;nonsense").unwrap_err();
        assert_eq!(u32::from(error.code), 4);
        assert!(error.msg.contains("nonsense"), "{}", error.msg);
    }

    #[test]
    fn args_of_the_configuration_win_over_the_variable() {
        let config = serde_json::json!({"K8S_POD_NAME": "from-config", "n": 3, "labels": [{"key": "a", "value": "b"}]});
        let both = CniArgs::parse(Some("K8S_POD_NAME=from-env;K8S_POD_NAMESPACE=n"), config.as_object()).unwrap();
        assert_eq!((both.pod_namespace(), both.pod_name()), (Some("n"), Some("from-config")));
        assert_eq!((both.get("n"), both.get("labels")), (Some("3"), None));
    }
}
