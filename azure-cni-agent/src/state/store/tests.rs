#![allow(clippy::disallowed_types, reason = "tests may run programs")]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use azure_cni_api::names::host_interface;
use tempfile::TempDir;

use super::*;
use crate::state::sample::record;

mod damage;

const BOOT: &str = "6e7c7ab1-6b2f-4b0a-8a3e-b7d7dfb1b0a5";

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn open(dir: &TempDir) -> Store {
    Store::open(&dir.path().join("state"), BOOT).unwrap()
}

fn opened() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    (dir, store)
}

fn reopened(dir: &TempDir, store: Store) -> Store {
    drop(store);
    open(dir)
}

fn files(dir: &TempDir) -> PathBuf {
    dir.path().join("state").join(DIR_NAME)
}

fn file_of(dir: &TempDir, record: &AttachmentRecord) -> PathBuf {
    files(dir).join(file::record_name(&record.id))
}

fn names(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(files(dir)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// As the kernel tells of it: under the name that its veth has.
fn found(container: &str) -> AttachmentRecord {
    let record = record(container);
    AttachmentRecord { host_interface: host_interface(&record.id), ..record }
}

#[test]
fn a_record_is_there_after_reopening_and_gone_after_removal() {
    let (dir, store) = opened();
    assert_eq!(store.all(), []);
    let (a, b) = (record("a"), record("b"));
    store.put(&b).unwrap();
    store.put(&a).unwrap();

    let store = reopened(&dir, store);
    assert_eq!(store.get(&a.id), Some(a.clone()));
    assert_eq!(store.all(), [a.clone(), b.clone()]);
    assert!(store.remove(&a.id, at(5)).unwrap());
    assert_eq!(store.get(&a.id), None);

    let store = reopened(&dir, store);
    assert!(!store.remove(&a.id, at(5)).unwrap());
    assert_eq!(store.get(&a.id), None);
    assert_eq!(store.all(), [b]);
}

#[test]
fn a_second_put_replaces_the_first() {
    let (dir, store) = opened();
    store.put(&record("a")).unwrap();
    let changed = AttachmentRecord { host_ifindex: 18, netns_id: None, ..record("a") };
    store.put(&changed).unwrap();
    assert_eq!(store.all(), std::slice::from_ref(&changed));
    assert_eq!(reopened(&dir, store).all(), [changed]);
}

#[test]
fn when_addresses_were_released_is_kept_until_they_are_recorded_again_or_it_no_longer_matters() {
    let (dir, store) = opened();
    let record = record("a");
    let address = record.addresses[0];
    store.put(&record).unwrap();
    assert_eq!(store.released_since(at(0)), []);
    store.remove(&record.id, at(50)).unwrap();

    let store = reopened(&dir, store);
    for _ in 0..2 {
        assert_eq!(store.released_since(at(20)), [(address, at(50))]);
    }
    assert_eq!(store.released_since(at(51)), []);
    store.put(&record).unwrap();
    assert_eq!(store.released_since(at(0)), []);
    let store = reopened(&dir, store);
    assert_eq!(store.released_since(at(0)), []);

    store.remove(&record.id, at(60)).unwrap();
    drop(store);
    let store = Store::open(&dir.path().join("state"), "another boot").unwrap();
    assert_eq!(store.released_since(at(0)), []);
}

#[test]
fn files_of_deleted_attachments_are_no_more_than_addresses() {
    let (dir, store) = opened();
    for number in 0..20 {
        let record = record(&format!("c{number}"));
        store.put(&record).unwrap();
        assert!(store.remove(&record.id, at(number)).unwrap());
    }
    // All had the same address; beside it there is the schema.
    assert_eq!(names(&dir).len(), 2, "{:?}", names(&dir));
    let store = reopened(&dir, store);
    assert_eq!(store.released_since(at(0)), [(record("a").addresses[0], at(19))]);
}

#[test]
fn an_agent_that_dies_before_it_has_tidied_up_finds_the_same() {
    let (dir, store) = opened();
    let (a, b) = (record("a"), record("b"));
    store.put(&a).unwrap();
    store.remove(&a.id, at(5)).unwrap();
    let released = files(&dir).join(file::released_name(&a.id, BOOT, at(5)));
    let content = std::fs::read(&released).unwrap();
    store.put(&b).unwrap();
    assert!(!released.exists());
    // What it had not yet removed, and what it was about to write.
    std::fs::write(&released, content).unwrap();
    std::fs::write(files(&dir).join(".azv.json.77"), "{").unwrap();

    let store = reopened(&dir, store);
    assert_eq!(store.released_since(at(0)), []);
    assert_eq!(store.all(), [b]);
    assert_eq!(names(&dir).len(), 2, "{:?}", names(&dir));
}

#[test]
fn a_new_store_is_unfinished_until_it_has_all_that_lives_on_the_node() {
    let (dir, store) = opened();
    // An agent that dies before it has finished finds the same again.
    let store = reopened(&dir, store);
    assert!(store.is_unfinished() && store.lacks(&record("a")));
    let unstorable = AttachmentRecord { netns: OsString::from_vec(b"/run/netns/\xff".to_vec()).into(), ..record("b") };
    store.finish(&[record("a"), unstorable]).unwrap_err();
    assert!(store.is_unfinished() && store.all().is_empty());

    store.finish(&[record("a"), record("b")]).unwrap();
    assert!(!store.is_unfinished() && !store.lacks(&record("c")));
    let store = reopened(&dir, store);
    assert!(!store.is_unfinished());
    assert_eq!(store.all(), [record("a"), record("b")]);
}

#[test]
fn only_its_owner_may_look_into_a_new_state_directory() {
    let (dir, _store) = opened();
    for made in [dir.path().join("state"), files(&dir)] {
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[test]
fn records_written_at_the_same_time_are_all_kept() {
    let (dir, store) = opened();
    std::thread::scope(|scope| {
        for container in 0..64 {
            let store = &store;
            scope.spawn(move || store.put(&record(&format!("c{container}"))).unwrap());
        }
    });
    assert_eq!(store.all().len(), 64);
    assert_eq!(reopened(&dir, store).all().len(), 64);
}

/// Set in a process that this test binary starts of itself, to the state directory it shall use.
const CHILD_DIR: &str = "AZURE_CNI_TEST_STORE_DIR";

/// The same test binary, running only the test of this name, as another process on the same store.
fn child(test: &str, dir: &TempDir) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("state::store::tests::{test}"), "--nocapture"]);
    command.env(CHILD_DIR, dir.path().join("state"));
    command
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let error = Store::open(Path::new(&dir), BOOT).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        return;
    }
    let (dir, store) = opened();
    let output = child("a_second_process_is_told_that_the_store_is_in_use", &dir).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{report}");
    // And is let in once the first has ended.
    drop(reopened(&dir, store));
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Fails only if the process has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the test of this name in another process until it has reported this many steps, and kills it. The last step reported.
fn kill_in_the_middle(test: &str, dir: &TempDir, steps: usize) -> usize {
    let reported = || std::fs::read_to_string(dir.path().join("state/reported")).ok()?.parse::<usize>().ok();
    let process = KillOnDrop(child(test, dir).stdout(Stdio::null()).spawn().unwrap());
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while reported().is_none_or(|number| number < steps) {
        assert!(std::time::Instant::now() < deadline, "the writing process does not write");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(process);
    // The kill may have come while the word was written.
    reported().unwrap_or(steps)
}

/// What a child has done for certain; the parent takes its word for it.
fn report(dir: &Path, number: usize) {
    std::fs::write(dir.join("reported"), number.to_string()).unwrap();
}

#[test]
fn what_was_put_survives_a_kill_in_the_middle_of_writing() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let store = Store::open(Path::new(&dir), BOOT).unwrap();
        // Far more than it gets to, and an end even if no parent is left to kill it.
        for number in 0..10_000 {
            store.put(&record(&format!("c{number:06}"))).unwrap();
            report(Path::new(&dir), number);
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let reported = kill_in_the_middle("what_was_put_survives_a_kill_in_the_middle_of_writing", &dir, 20);
    let store = open(&dir);
    let records = store.all();
    assert_eq!(store.set_aside(), []);
    assert!(records.len() > reported, "{} records, {reported} was the last number reported", records.len());
    for (number, found) in records.iter().enumerate() {
        assert_eq!(*found, record(&format!("c{number:06}")));
    }
}

#[test]
fn a_kill_in_the_middle_of_a_change_leaves_the_old_or_the_new_record_as_a_whole() {
    let changed = |number: usize| {
        let netns = format!("/run/netns/{}", "x".repeat(number % 3000)).into();
        AttachmentRecord { host_ifindex: number as u32, netns, ..record("a") }
    };
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let store = Store::open(Path::new(&dir), BOOT).unwrap();
        for number in 0..10_000 {
            // Now over the earlier one, now in place of one that was removed.
            if number % 4 == 0 {
                store.remove(&record("a").id, at(number as u64)).unwrap();
            }
            store.put(&changed(number)).unwrap();
            report(Path::new(&dir), number);
        }
        return;
    }
    let test = "a_kill_in_the_middle_of_a_change_leaves_the_old_or_the_new_record_as_a_whole";
    for round in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let reported = kill_in_the_middle(test, &dir, 10 + round);
        let store = open(&dir);
        assert_eq!(store.set_aside(), []);
        match store.get(&record("a").id) {
            Some(found) => {
                assert!(found.host_ifindex as usize >= reported, "{} after {reported}", found.host_ifindex);
                assert_eq!(found, changed(found.host_ifindex as usize));
                assert_eq!(store.released_since(at(0)), []);
            }
            // Removed, and not yet written again: its address cools down.
            None => assert_eq!(store.released_since(at(0)).len(), 1),
        }
    }
}

#[test]
fn a_path_that_json_cannot_hold_is_refused_before_anything_is_written() {
    let (dir, store) = opened();
    let netns = PathBuf::from(OsString::from_vec(b"/run/netns/\xff".to_vec()));
    let error = store.put(&AttachmentRecord { netns, ..record("a") }).unwrap_err();
    assert!(matches!(error, StoreError::Unstorable { .. }), "{error}");
    assert_eq!(store.all(), []);
    assert_eq!(names(&dir), [open::SCHEMA_FILE]);
}

#[test]
fn a_write_that_failed_loses_nothing_and_the_next_one_succeeds() {
    let (dir, store) = opened();
    let (a, b) = (record("a"), record("b"));
    store.put(&a).unwrap();
    // As a full or failing disk does: nothing can be written beside the place.
    let in_the_way = |record: &AttachmentRecord| durable::draft_of(&file_of(&dir, record)).unwrap();
    for record in [&a, &b] {
        std::fs::create_dir(in_the_way(record)).unwrap();
        let error = store.put(&AttachmentRecord { mtu: 9000, ..record.clone() }).unwrap_err();
        assert!(matches!(&error, StoreError::Io { .. }) && error.to_string().contains(DIR_NAME), "{error}");
    }
    assert_eq!(store.all(), std::slice::from_ref(&a));
    for record in [&a, &b] {
        std::fs::remove_dir(in_the_way(record)).unwrap();
    }
    store.put(&b).unwrap();
    assert_eq!(store.all(), [a.clone(), b.clone()]);
    assert_eq!(reopened(&dir, store).all(), [a, b]);
}

#[test]
fn a_record_that_a_failed_write_has_left_goes_with_its_removal() {
    let (dir, store) = opened();
    let a = found("a");
    std::fs::write(file_of(&dir, &a), file::encode(&a).unwrap()).unwrap();
    assert!(!store.remove(&a.id, at(5)).unwrap());
    assert_eq!(reopened(&dir, store).all(), []);
}

#[test]
fn a_record_whose_file_another_hand_has_removed_can_be_removed() {
    let (dir, store) = opened();
    let a = found("a");
    store.put(&a).unwrap();
    std::fs::remove_file(file_of(&dir, &a)).unwrap();
    assert!(store.remove(&a.id, at(5)).unwrap());
    let store = reopened(&dir, store);
    // The cool-down is on the disk too.
    assert_eq!((store.all(), store.released_since(at(0)).len()), (vec![], 1));
    store.put(&a).unwrap();
    assert_eq!(reopened(&dir, store).all(), [a]);
}
