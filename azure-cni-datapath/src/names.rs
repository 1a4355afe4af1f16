//! The names of the maps of one address family.

/// What the maps of a family are called in the object and where they are pinned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    pub endpoints: &'static str,
    pub endpoint_cache: &'static str,
    pub routes: &'static str,
    pub gateway: &'static str,
    pub flows: &'static str,
    pub half_open: &'static str,
    pub datagrams: &'static str,
    pub pod_flows: &'static str,
    pub pods_swept: &'static str,
    pub translations: &'static str,
    pub half_open_translations: &'static str,
}

impl Names {
    pub const V4: Self = Self {
        endpoints: "ENDPOINTS4",
        endpoint_cache: "ENDPOINT_CACHE4",
        routes: "ROUTES4",
        gateway: "GATEWAY4",
        flows: "FLOWS4",
        half_open: "HALF_OPEN4",
        datagrams: "DATAGRAMS4",
        pod_flows: "POD_FLOWS4",
        pods_swept: "PODS_SWEPT4",
        translations: "NAT4",
        half_open_translations: "NAT_HALF_OPEN4",
    };
    pub const V6: Self = Self {
        endpoints: "ENDPOINTS6",
        endpoint_cache: "ENDPOINT_CACHE6",
        routes: "ROUTES6",
        gateway: "GATEWAY6",
        flows: "FLOWS6",
        half_open: "HALF_OPEN6",
        datagrams: "DATAGRAMS6",
        pod_flows: "POD_FLOWS6",
        pods_swept: "PODS_SWEPT6",
        translations: "NAT6",
        half_open_translations: "NAT_HALF_OPEN6",
    };
}
