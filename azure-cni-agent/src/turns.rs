//! Calls for the same attachment wait for each other; calls for different ones do not meet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use azure_cni_api::cni::AttachmentId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// One lock per attachment that somebody is working on.
#[derive(Default)]
pub struct Turns {
    locks: Mutex<HashMap<AttachmentId, Weak<AsyncMutex<()>>>>,
}

impl Turns {
    /// Waits until nobody else works on the attachment; the turn ends when the guard is dropped.
    pub async fn wait_for(&self, id: &AttachmentId) -> OwnedMutexGuard<()> {
        let lock = self.lock_of(id);
        lock.lock_owned().await
    }

    /// The turn if nobody has it or waits for it.
    pub fn try_take(&self, id: &AttachmentId) -> Option<OwnedMutexGuard<()>> {
        self.lock_of(id).try_lock_owned().ok()
    }

    /// Whose turns somebody has, or waits for.
    pub fn taken(&self) -> Vec<AttachmentId> {
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
        let turns = Turns::default();
        let first = turns.wait_for(&id("a")).await;
        let _other = turns.wait_for(&id("b")).await;
        let second = tokio::time::timeout(Duration::from_millis(20), turns.wait_for(&id("a"))).await;
        assert!(second.is_err());
        drop(first);
        let _second = turns.wait_for(&id("a")).await;
    }

    #[tokio::test]
    async fn whoever_only_looks_in_does_not_wait() {
        let turns = Turns::default();
        let first = turns.wait_for(&id("a")).await;
        assert!(turns.try_take(&id("a")).is_none());
        assert_eq!(turns.taken(), [id("a")]);
        drop(first);
        assert_eq!(turns.taken(), []);
        assert!(turns.try_take(&id("a")).is_some());
    }

    #[tokio::test]
    async fn finished_attachments_are_forgotten() {
        let turns = Turns::default();
        for number in 0..100 {
            drop(turns.wait_for(&id(&format!("c{number}"))).await);
        }
        assert!(turns.locks.lock().unwrap().len() <= 1);
    }
}
