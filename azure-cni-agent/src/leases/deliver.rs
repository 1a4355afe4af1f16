//! Delivers pending releases to azure-cns.

use azure_cni_ipam::cns::Claim;

use super::address_leases::AddressLeases;
use super::cns::CnsError;
use crate::attachment_locks::AttachmentLocks;

/// Delivers all of them. The first failure ends the round: a server that does not take one release takes no other.
pub async fn deliver_releases(leases: &AddressLeases, locks: &AttachmentLocks) -> Result<(), CnsError> {
    let Some(cns) = leases.cns() else { return Ok(()) };
    let claims = cns.claims().await?;
    for claim in claims.iter().filter(|claim| leases.lease_of(&claim.id).is_none()) {
        let _lock = locks.lock(&claim.id).await;
        // Its ADD may just have ended.
        if leases.lease_of(&claim.id).is_some() {
            continue;
        }
        // Two containers may look the same to the server: a release for one must not take what the other has.
        let is_shared = claims.iter().any(|other| is_same_pod(claim, other) && leases.lease_of(&other.id).is_some());
        cns.release(claim, !is_shared).await?;
    }
    Ok(())
}

fn is_same_pod(claim: &Claim, other: &Claim) -> bool {
    other.id != claim.id && other.pod_interface_id() == claim.pod_interface_id()
}
