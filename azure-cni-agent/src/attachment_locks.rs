//! One lock for each attachment: calls for the same attachment wait for each other, calls for different ones do not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use azure_cni_api::cni::AttachmentId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// One lock for each attachment that a call works on.
#[derive(Default)]
pub struct AttachmentLocks {
    locks: Mutex<HashMap<AttachmentId, Weak<AsyncMutex<()>>>>,
}

impl AttachmentLocks {
    /// Waits until no other call holds the attachment. Dropping the guard releases it.
    pub async fn lock(&self, id: &AttachmentId) -> OwnedMutexGuard<()> {
        let lock = self.lock_of(id);
        lock.lock_owned().await
    }

    /// The lock, if no call holds it or waits for it.
    pub fn try_lock(&self, id: &AttachmentId) -> Option<OwnedMutexGuard<()>> {
        self.lock_of(id).try_lock_owned().ok()
    }

    /// The attachments whose lock a call holds or waits for.
    pub fn held(&self) -> Vec<AttachmentId> {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.iter().filter(|(_, lock)| lock.strong_count() > 0).map(|(id, _)| id.clone()).collect()
    }

    fn lock_of(&self, id: &AttachmentId) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(container: &str) -> AttachmentId {
        azure_cni_api::cni::sample::attachment(container)
    }

    #[tokio::test]
    async fn same_attachment_waits_and_another_does_not() {
        let locks = AttachmentLocks::default();
        let first = locks.lock(&id("a")).await;
        let _other = locks.lock(&id("b")).await;
        let second = tokio::time::timeout(Duration::from_millis(20), locks.lock(&id("a"))).await;
        assert!(second.is_err());
        drop(first);
        let _second = locks.lock(&id("a")).await;
    }

    #[tokio::test]
    async fn a_try_does_not_wait() {
        let locks = AttachmentLocks::default();
        let first = locks.lock(&id("a")).await;
        assert!(locks.try_lock(&id("a")).is_none());
        assert_eq!(locks.held(), [id("a")]);
        drop(first);
        assert_eq!(locks.held(), []);
        assert!(locks.try_lock(&id("a")).is_some());
    }

    #[tokio::test]
    async fn finished_attachments_are_forgotten() {
        let locks = AttachmentLocks::default();
        for number in 0..100 {
            drop(locks.lock(&id(&format!("c{number}"))).await);
        }
        assert!(locks.locks.lock().unwrap().len() <= 1);
    }
}
