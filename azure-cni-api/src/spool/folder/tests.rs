//! Requests are read back in order, and nothing else in the folder is taken for a request.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::SpooledCall;
use super::*;
use crate::boot_time::BootTime;

fn del(nanos: u64) -> SpooledRequest {
    let attachment = crate::cni::sample::attachment("c1");
    SpooledRequest {
        boot_id: "b".to_owned(),
        requested_at: BootTime::from_nanos(nanos),
        call: SpooledCall::Del { attachment },
    }
}

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(&dir.path().join("deep/spool")).unwrap();
    (dir, folder)
}

#[test]
fn requests_come_back_in_the_order_in_which_they_were_made_and_each_once() {
    let (_dir, folder) = folder();
    for nanos in [1_000, 30, 200] {
        folder.put(&del(nanos)).unwrap();
    }
    let found: Vec<_> = folder.names().unwrap().iter().map(|name| folder.read(name).unwrap()).collect();
    assert_eq!(found, [30, 200, 1_000].map(|nanos| SpoolEntry::Request(del(nanos))));

    let first = folder.names().unwrap().remove(0);
    folder.remove(&first).unwrap();
    folder.remove(&first).unwrap();
    assert_eq!(folder.read(&first).unwrap(), SpoolEntry::Gone);
    assert_eq!(folder.names().unwrap().len(), 2);
}

#[test]
fn only_root_can_read_what_is_written() {
    let (_dir, folder) = folder();
    folder.put(&del(1)).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!(mode(&folder.path), 0o700);
    assert_eq!(mode(&folder.path.join(&folder.names().unwrap()[0])), 0o600);
}

#[test]
fn a_folder_that_others_could_write_to_is_refused() {
    let (dir, folder) = folder();
    std::fs::set_permissions(&folder.path, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(Folder::open(&folder.path), Err(SpoolError::Unsafe { .. })));
    let link = dir.path().join("link");
    symlink(dir.path(), &link).unwrap();
    assert!(matches!(Folder::open(&link), Err(SpoolError::Unsafe { .. })));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Folder::open(&file).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
}

#[test]
fn a_malformed_request_is_recognized_and_set_aside() {
    let (dir, folder) = folder();
    let at = |name: &str| folder.path.join(name);
    std::fs::write(at("1-x.json"), "{").unwrap();
    std::fs::write(at("2-x.json"), vec![b' '; MAX_FRAME + 1]).unwrap();
    std::fs::create_dir(at("3-x.json")).unwrap();
    symlink(dir.path(), at("4-x.json")).unwrap();
    nix::unistd::mkfifo(&at("5-x.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(at("README"), "not a request").unwrap();
    let names = folder.names().unwrap();
    assert_eq!(names.len(), 5);
    for name in names {
        assert!(matches!(folder.read(&name).unwrap(), SpoolEntry::Malformed(_)), "{name}");
        assert_eq!(folder.set_aside(&name).unwrap(), format!("{name}.bad"));
    }
    assert_eq!(folder.names().unwrap(), [""; 0]);
    assert!(at("1-x.json.bad").exists() && at("README").exists());
}

#[test]
fn remains_of_a_killed_plugin_are_never_read_and_removed_in_time() {
    let (_dir, folder) = folder();
    let unfinished = folder.path.join(".00000000000000000007-gc.json.1234");
    std::fs::write(&unfinished, "{").unwrap();
    assert_eq!(folder.names().unwrap(), [""; 0]);
    folder.remove_unfinished().unwrap();
    assert!(unfinished.exists(), "it may yet be finished");
    let long_ago = SystemTime::now() - 2 * UNFINISHED_AFTER;
    std::fs::File::open(&unfinished).unwrap().set_modified(long_ago).unwrap();
    folder.remove_unfinished().unwrap();
    assert!(!unfinished.exists());
}

#[test]
fn a_folder_that_is_full_takes_no_more() {
    let (_dir, folder) = folder();
    for number in 0..MAX_REQUESTS {
        std::fs::File::create(folder.path.join(format!("{number:020}-gc.json"))).unwrap();
    }
    let error = folder.put(&del(1)).unwrap_err();
    assert!(matches!(error, SpoolError::Full { .. }), "{error}");
}

#[test]
fn a_request_longer_than_a_frame_is_refused() {
    let (_dir, folder) = folder();
    let id = |number: usize| {
        let mut id = crate::cni::sample::attachment("c1");
        id.container_id = format!("{}{number}", "c".repeat(1000)).parse().unwrap();
        id
    };
    let call = SpooledCall::Gc { network: "azure".parse().unwrap(), valid_attachments: (0..1100).map(id).collect() };
    let error = folder.put(&SpooledRequest { call, ..del(1) }).unwrap_err();
    assert!(matches!(error, SpoolError::TooLong { .. }), "{error}");
    assert_eq!(folder.names().unwrap(), [""; 0]);
}
