use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use redb::Database;
use tempfile::TempDir;

use super::*;
use crate::state::sample::record;

fn at(boot: &str, secs: u64) -> BootStamp {
    BootStamp { boot_id: boot.to_owned(), since_boot: Duration::from_secs(secs) }
}

fn opened() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap();
    (dir, store)
}

fn reopened(dir: &TempDir, store: Store) -> Store {
    drop(store);
    Store::open(&dir.path().join("state")).unwrap()
}

fn file(dir: &TempDir) -> PathBuf {
    dir.path().join("state").join(FILE_NAME)
}

#[test]
fn a_record_is_there_after_reopening_and_gone_after_removal() {
    let (dir, store) = opened();
    assert_eq!(store.all().unwrap(), []);
    let (a, b) = (record("a"), record("b"));
    store.put(&b).unwrap();
    store.put(&a).unwrap();

    let store = reopened(&dir, store);
    assert_eq!(store.get(&a.id).unwrap(), Some(a.clone()));
    assert_eq!(store.all().unwrap(), [a.clone(), b.clone()]);
    assert!(store.remove(&a.id, &at("b", 5)).unwrap());

    let store = reopened(&dir, store);
    assert!(!store.remove(&a.id, &at("b", 5)).unwrap());
    assert_eq!(store.get(&a.id).unwrap(), None);
    assert_eq!(store.all().unwrap(), [b]);
}

#[test]
fn a_second_put_replaces_the_first() {
    let (_dir, store) = opened();
    store.put(&record("a")).unwrap();
    let changed = AttachmentRecord { host_ifindex: 18, netns_id: None, ..record("a") };
    store.put(&changed).unwrap();
    assert_eq!(store.all().unwrap(), [changed]);
}

#[test]
fn when_addresses_were_released_is_kept_until_they_are_recorded_again_or_it_no_longer_matters() {
    let (dir, store) = opened();
    let record = record("a");
    let address = record.addresses[0];
    store.put(&record).unwrap();
    assert_eq!(store.released_since(&at("b", 0)).unwrap(), []);
    store.remove(&record.id, &at("b", 50)).unwrap();

    let store = reopened(&dir, store);
    for _ in 0..2 {
        assert_eq!(store.released_since(&at("b", 20)).unwrap(), [(address, Duration::from_secs(50))]);
    }
    store.put(&record).unwrap();
    assert_eq!(store.released_since(&at("b", 0)).unwrap(), []);
    for later in [at("b", 51), at("another boot", 0)] {
        store.remove(&record.id, &at("b", 50)).unwrap();
        assert_eq!(store.released_since(&later).unwrap(), []);
        store.put(&record).unwrap();
    }
}

#[test]
fn a_new_store_is_unfinished_until_it_has_all_that_lives_on_the_node() {
    let (dir, store) = opened();
    // An agent that dies before it has finished finds the same again.
    let store = reopened(&dir, store);
    assert!(store.is_unfinished().unwrap());
    let unstorable = AttachmentRecord { netns: OsString::from_vec(b"/run/netns/\xff".to_vec()).into(), ..record("b") };
    store.finish(&[record("a"), unstorable]).unwrap_err();
    assert!(store.is_unfinished().unwrap() && store.all().unwrap().is_empty());

    store.finish(&[record("a"), record("b")]).unwrap();
    let store = reopened(&dir, store);
    assert!(!store.is_unfinished().unwrap());
    assert_eq!(store.all().unwrap(), [record("a"), record("b")]);
}

#[test]
fn only_its_owner_may_look_into_a_new_state_directory() {
    let (dir, _store) = opened();
    let mode = dir.path().join("state").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn records_written_at_the_same_time_are_all_kept() {
    let (_dir, store) = opened();
    std::thread::scope(|scope| {
        for container in 0..8 {
            let store = &store;
            scope.spawn(move || store.put(&record(&format!("c{container}"))).unwrap());
        }
    });
    assert_eq!(store.all().unwrap().len(), 8);
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
        let error = Store::open(Path::new(&dir)).unwrap_err();
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

#[test]
fn what_was_put_survives_a_kill_in_the_middle_of_writing() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        let store = Store::open(Path::new(&dir)).unwrap();
        // Far more than it gets to, and an end even if nobody is left to kill it.
        for number in 0..10_000 {
            store.put(&record(&format!("c{number:06}"))).unwrap();
            // Told only once it is written; the parent takes our word for it.
            std::fs::write(Path::new(&dir).join("told"), number.to_string()).unwrap();
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let told = || std::fs::read_to_string(dir.path().join("state/told")).ok()?.parse::<usize>().ok();
    let mut command = child("what_was_put_survives_a_kill_in_the_middle_of_writing", &dir);
    let process = KillOnDrop(command.stdout(Stdio::null()).spawn().unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while told().is_none_or(|number| number < 20) {
        assert!(std::time::Instant::now() < deadline, "the writing process does not write");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    drop(process);

    let records = Store::open(&dir.path().join("state")).unwrap().all().unwrap();
    // The kill may have come while the word was written; the loop above saw at least 20.
    let told = told().unwrap_or(20);
    assert!(records.len() > told, "{} records, {told} was the last number told", records.len());
    for (number, found) in records.iter().enumerate() {
        assert_eq!(*found, record(&format!("c{number:06}")));
    }
}

#[test]
fn a_file_that_is_no_database_is_reported_as_damaged_and_left_alone() {
    let (dir, store) = opened();
    drop(store);
    for garbage in [b"garbage".to_vec(), vec![0; 4096], vec![0xff; 1 << 20]] {
        std::fs::write(file(&dir), &garbage).unwrap();
        let error = Store::open(&dir.path().join("state")).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{} bytes: {error:?}", garbage.len());
        assert_eq!(std::fs::read(file(&dir)).unwrap(), garbage);
    }
}

#[test]
fn an_empty_file_is_a_new_store() {
    let (dir, store) = opened();
    drop(store);
    std::fs::write(file(&dir), b"").unwrap();
    assert_eq!(Store::open(&dir.path().join("state")).unwrap().all().unwrap(), []);
}

#[test]
fn a_damaged_store_gives_an_error_or_the_true_records_and_never_a_panic() {
    let (dir, store) = opened();
    let records: Vec<_> = (0..40).map(|number| record(&format!("c{number:02}"))).collect();
    records.iter().for_each(|record| store.put(record).unwrap());
    drop(store);
    let sound = std::fs::read(file(&dir)).unwrap();
    let mut damaged_count = 0;
    // A prime step, so that the damage meets every part of a page.
    for at in (0..sound.len()).step_by(sound.len() / 211) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x55;
        std::fs::write(file(&dir), &damaged).unwrap();
        match Store::open(&dir.path().join("state")).and_then(|store| store.all()) {
            Ok(found) => assert_eq!(found, records, "byte {at} was changed"),
            Err(StoreError::Corrupt { .. }) => damaged_count += 1,
            Err(other) => panic!("byte {at} was changed: {other}"),
        }
    }
    for length in [1, 300, 4096, sound.len() / 2, sound.len() - 1] {
        std::fs::write(file(&dir), &sound[..length]).unwrap();
        match Store::open(&dir.path().join("state")).and_then(|store| store.all()) {
            Ok(found) => assert_eq!(found, records, "cut to {length} bytes"),
            Err(StoreError::Corrupt { .. }) => damaged_count += 1,
            Err(other) => panic!("cut to {length} bytes: {other}"),
        }
    }
    assert!(damaged_count > 0, "no damage met anything in use");
}

#[test]
fn a_record_that_does_not_read_back_is_reported_by_its_key() {
    let (_dir, store) = opened();
    let put_raw = |key: &str, value: &[u8]| {
        let put = |transaction: &redb::WriteTransaction| {
            transaction.open_table(ATTACHMENTS)?.insert(key, value)?;
            Ok(())
        };
        store.database.write(put).unwrap();
    };
    put_raw("azure/a/eth0", b"{}");
    let error = store.all().unwrap_err().to_string();
    assert!(error.contains("is damaged: the record of azure/a/eth0 cannot be read"), "{error}");
    put_raw("azure/a/eth0", &serde_json::to_vec(&record("b")).unwrap());
    let error = store.get(&record("a").id).unwrap_err().to_string();
    assert!(error.contains("the record of azure/a/eth0 is that of azure/b/eth0"), "{error}");
}

fn set_schema(dir: &TempDir, schema: Option<u32>) {
    let database = Database::open(file(dir)).unwrap();
    let transaction = database.begin_write().unwrap();
    match schema {
        Some(schema) => drop(transaction.open_table(META).unwrap().insert(SCHEMA_KEY, schema).unwrap()),
        None => drop(transaction.open_table(META).unwrap().remove(SCHEMA_KEY).unwrap()),
    }
    transaction.commit().unwrap();
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_alone() {
    let (dir, store) = opened();
    store.put(&record("a")).unwrap();
    drop(store);
    set_schema(&dir, Some(SCHEMA + 1));
    let error = Store::open(&dir.path().join("state")).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 2, known: 1, .. }), "{error}");
    set_schema(&dir, Some(SCHEMA));
    assert_eq!(Store::open(&dir.path().join("state")).unwrap().all().unwrap(), [record("a")]);
}

#[test]
fn a_database_that_no_agent_wrote_is_refused() {
    let (dir, store) = opened();
    drop(store);
    for schema in [None, Some(0)] {
        set_schema(&dir, schema);
        let error = Store::open(&dir.path().join("state")).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{schema:?}: {error}");
    }
    std::fs::remove_file(file(&dir)).unwrap();
    const OTHER: TableDefinition<u64, u64> = TableDefinition::new("attachments");
    let database = Database::create(file(&dir)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(OTHER).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(&dir.path().join("state")).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, b"").unwrap();
    let error = Store::open(&in_the_way.join("state")).unwrap_err();
    assert!(matches!(&error, StoreError::Io { .. }) && error.to_string().contains("file/state"), "{error}");
}

#[test]
fn a_path_that_json_cannot_hold_is_refused_before_anything_is_written() {
    let (_dir, store) = opened();
    let netns = PathBuf::from(OsString::from_vec(b"/run/netns/\xff".to_vec()));
    let error = store.put(&AttachmentRecord { netns, ..record("a") }).unwrap_err();
    assert!(matches!(error, StoreError::Unstorable { .. }), "{error}");
    assert_eq!(store.all().unwrap(), []);
}

#[test]
fn a_damaged_store_is_set_aside_as_it_is_and_a_new_one_takes_its_place() {
    let (dir, store) = opened();
    store.finish(&[record("a")]).unwrap();
    drop(store);
    let state = dir.path().join("state");
    let (store, aside) = Store::open_or_set_aside(&state).unwrap();
    assert!(aside.is_none() && !store.is_unfinished().unwrap());
    drop(store);

    std::fs::write(file(&dir), b"garbage").unwrap();
    let (store, aside) = Store::open_or_set_aside(&state).unwrap();
    let aside = aside.unwrap();
    assert_eq!(std::fs::read(&aside.moved_to).unwrap(), b"garbage");
    assert!(!aside.problem.is_empty() && store.is_unfinished().unwrap());
    store.put(&record("b")).unwrap();
    drop(store);
    assert_eq!(Store::open_or_set_aside(&state).unwrap().0.all().unwrap(), [record("b")]);
}

#[test]
fn a_record_that_does_not_read_back_sets_its_store_aside_too() {
    let (dir, store) = opened();
    let garble = |transaction: &redb::WriteTransaction| {
        transaction.open_table(ATTACHMENTS)?.insert("azure/a/eth0", b"{}".as_slice())?;
        Ok(())
    };
    store.database.write(garble).unwrap();
    drop(store);
    let (store, aside) = Store::open_or_set_aside(&dir.path().join("state")).unwrap();
    assert!(aside.unwrap().problem.contains("azure/a/eth0"));
    assert_eq!(store.all().unwrap(), []);
}

#[test]
fn neither_a_store_of_a_later_version_nor_one_in_use_is_set_aside() {
    let (dir, store) = opened();
    drop(store);
    set_schema(&dir, Some(SCHEMA + 1));
    let state = dir.path().join("state");
    let error = Store::open_or_set_aside(&state).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { .. }), "{error}");
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
}
