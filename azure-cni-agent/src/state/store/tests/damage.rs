//! What a torn disk, another version or another hand has left in the directory.

use super::*;

#[test]
fn a_damaged_record_is_set_aside_and_concerns_no_other_attachment() {
    let (dir, store) = opened();
    let (a, b) = (found("a"), found("b"));
    store.finish(&[a.clone(), b.clone()]).unwrap();
    let sound = std::fs::read(file_of(&dir, &a)).unwrap();
    drop(store);
    let damages = [b"".to_vec(), b"garbage".to_vec(), vec![0xff; 1 << 20], sound[..sound.len() / 3].to_vec()];
    for (number, damage) in (1..).zip(damages) {
        std::fs::write(file_of(&dir, &a), &damage).unwrap();
        // Each at a time of its own, which coarse clocks do not tell.
        let file = File::options().write(true).open(file_of(&dir, &a)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + at(number)).unwrap();
        let store = open(&dir);
        assert_eq!(store.all(), std::slice::from_ref(&b));
        let [aside] = store.set_aside() else { panic!("{:?}", store.set_aside()) };
        assert_eq!(std::fs::read(&aside.kept_as).unwrap(), damage);
        assert!(aside.problem.contains(&file::record_name(&a.id)), "{}", aside.problem);
        // The other stands, and what has no record is not to be.
        assert!(store.is_unfinished() && store.lacks(&a) && !store.lacks(&b) && !store.lacks(&found("c")));

        // An agent that dies now finds the same again, and the damaged file is kept once.
        let store = reopened(&dir, store);
        assert_eq!(store.set_aside().len(), 1);
        assert!(store.lacks(&a));
        store.finish(std::slice::from_ref(&a)).unwrap();
        let store = reopened(&dir, store);
        assert_eq!(store.all(), [a.clone(), b.clone()]);
        assert!(!store.is_unfinished() && store.set_aside().is_empty());
    }
    assert_eq!(names(&dir).iter().filter(|name| name.contains(".damaged-")).count(), 4, "{:?}", names(&dir));
}

#[test]
fn a_damaged_record_of_what_no_longer_lives_is_gone_once_the_store_is_finished() {
    let (dir, store) = opened();
    let a = found("a");
    store.finish(std::slice::from_ref(&a)).unwrap();
    std::fs::write(file_of(&dir, &a), "garbage").unwrap();
    let store = reopened(&dir, store);
    store.finish(&[]).unwrap();
    let store = reopened(&dir, store);
    assert!(!store.is_unfinished() && store.all().is_empty() && store.set_aside().is_empty());
}

#[test]
fn a_record_found_under_another_identity_takes_the_place_of_the_damaged_one() {
    let (dir, store) = opened();
    let a = found("a");
    store.finish(std::slice::from_ref(&a)).unwrap();
    std::fs::write(file_of(&dir, &a), "garbage").unwrap();
    let store = reopened(&dir, store);
    let recovered = AttachmentRecord { id: record("recovered").id, ..a };
    assert!(store.lacks(&recovered));
    store.finish(std::slice::from_ref(&recovered)).unwrap();
    let store = reopened(&dir, store);
    assert_eq!(store.all(), [recovered]);
    assert!(!store.is_unfinished());
}

#[test]
fn a_damaged_release_is_set_aside_and_changes_nothing_else() {
    let (dir, store) = opened();
    store.finish(&[record("a"), record("b")]).unwrap();
    store.remove(&record("a").id, at(5)).unwrap();
    let name = file::released_name(&record("a").id, BOOT, at(5));
    std::fs::write(files(&dir).join(&name), "garbage").unwrap();
    let store = reopened(&dir, store);
    assert_eq!((store.all(), store.set_aside().len(), store.is_unfinished()), (vec![record("b")], 1, false));
    assert!(!files(&dir).join(name).exists());
}

#[test]
fn damage_anywhere_gives_the_true_records_or_one_less_and_never_a_panic() {
    let (dir, store) = opened();
    let records: Vec<_> = (0..8).map(|number| found(&format!("c{number:02}"))).collect();
    store.finish(&records).unwrap();
    drop(store);
    for name in names(&dir) {
        let path = files(&dir).join(&name);
        let sound = std::fs::read(&path).unwrap();
        let flipped = (0..sound.len()).step_by(37).map(|at| {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x55;
            damaged
        });
        let cut = [0, 1, sound.len() / 2, sound.len() - 2].map(|length| sound[..length].to_vec());
        for damaged in flipped.chain(cut) {
            std::fs::write(&path, &damaged).unwrap();
            let store = open(&dir);
            let left = records.iter().filter(|record| store.get(&record.id).as_ref() == Some(*record)).count();
            assert!(left >= 7 && store.is_unfinished(), "{name}: {left} records are left");
            let lacking: Vec<_> = records.iter().filter(|record| store.lacks(record)).cloned().collect();
            store.finish(&lacking).unwrap();
            assert_eq!(reopened(&dir, store).all(), records, "{name}");
        }
    }
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_alone() {
    let (dir, store) = opened();
    store.put(&record("a")).unwrap();
    drop(store);
    let schema = files(&dir).join(open::SCHEMA_FILE);
    let ours = std::fs::read(&schema).unwrap();
    std::fs::write(&schema, r#"{"schema":2,"layout":"of another kind"}"#).unwrap();
    std::fs::write(files(&dir).join("x.json"), "not ours").unwrap();
    let before = names(&dir);
    let error = Store::open(&dir.path().join("state"), BOOT).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 2, known: 1, .. }), "{error}");
    assert_eq!(names(&dir), before);
    std::fs::write(&schema, ours).unwrap();
    assert_eq!(open(&dir).all(), [record("a")]);
}

#[test]
fn a_directory_without_a_sound_schema_is_unfinished_and_keeps_its_records() {
    let (dir, store) = opened();
    let a = found("a");
    store.finish(std::slice::from_ref(&a)).unwrap();
    let schema = files(&dir).join(open::SCHEMA_FILE);
    drop(store);
    for damage in [None, Some(""), Some("{}"), Some(r#"{"schema":0,"finished":true}"#), Some(r#"{"schema":1}"#)] {
        match damage {
            Some(text) => std::fs::write(&schema, text).unwrap(),
            None => std::fs::remove_file(&schema).unwrap(),
        }
        let store = open(&dir);
        assert_eq!(store.set_aside().len(), usize::from(damage.is_some()));
        assert!(store.is_unfinished() && !store.lacks(&a) && store.lacks(&found("b")));
        store.finish(&[]).unwrap();
        let store = reopened(&dir, store);
        assert!(!store.is_unfinished());
        assert_eq!(store.all(), std::slice::from_ref(&a));
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("file");
    std::fs::write(&in_the_way, b"").unwrap();
    let error = Store::open(&in_the_way.join("state"), BOOT).unwrap_err();
    assert!(matches!(&error, StoreError::Io { .. }) && error.to_string().contains("file/state"), "{error}");
}

#[test]
fn a_damaged_record_of_a_veth_without_a_name_is_lacked_too() {
    let (dir, store) = opened();
    // Its file is named after its id, as always, and the veth after an id that is lost.
    let unnamed = AttachmentRecord { host_interface: "azv0123456789a".into(), ..record("azv0123456789a") };
    store.put(&unnamed).unwrap();
    std::fs::write(file_of(&dir, &unnamed), "{").unwrap();
    let store = reopened(&dir, store);
    assert!(store.lacks(&unnamed));
}
