//! What the kernel says of the programs when it loads them.

use azure_cni_agent::datapath::{Hook, OBJECT, loader};
use bpf_tests::Rig;

/// BPF_OBJ_NAME_LEN (include/uapi/linux/bpf.h) less the closing zero; the kernel cuts longer names off.
const LONGEST_NAME: usize = 15;

/// Instructions the verifier may walk through, of the million it would (BPF_COMPLEXITY_LIMIT_INSNS, include/linux/bpf.h).
///
/// Kernels differ by tens of per cent, and a program has room to grow: about twice what 6.18 counts today.
const CEILINGS: [(Hook, u32); 4] =
    [(Hook::FromEndpoint, 150_000), (Hook::ToEndpoint, 10_000), (Hook::FromWire, 30_000), (Hook::ToWire, 150_000)];

#[test]
fn programs_stay_below_their_ceiling() {
    let rig = Rig::new();
    let verified = |hook| {
        let info = rig.program(hook).info().unwrap();
        info.verified_instruction_count().expect("this kernel counts them (5.16)")
    };
    let table = CEILINGS.map(|(hook, ceiling)| (hook, verified(hook), ceiling));
    println!("program          verified    ceiling");
    for (hook, count, ceiling) in table {
        println!("{:<14} {count:>10} {ceiling:>10}", hook.program());
    }
    for (hook, count, ceiling) in table {
        assert!(count > 100, "{} is hardly a program: {count}", hook.program());
        assert!(count <= ceiling, "{}: {count} instructions, ceiling {ceiling}", hook.program());
    }
}

#[test]
fn names_are_no_longer_than_the_kernel_keeps() {
    let rig = Rig::new();
    let pins = rig.settings().dir.join("names");
    std::fs::create_dir(&pins).unwrap();
    let object =
        loader(&rig.settings().constants, |loader| loader.default_map_pin_directory(&pins).load(OBJECT)).unwrap();
    let programs: Vec<&str> = object.programs().map(|(name, _)| name).collect();
    let maps: Vec<&str> = object.maps().map(|(name, _)| name).collect();
    assert_eq!(programs.len(), Hook::ALL.len());
    assert!(maps.len() >= 5, "{maps:?}");
    for name in programs.into_iter().chain(maps) {
        assert!(name.len() <= LONGEST_NAME, "{name} has {} characters", name.len());
    }
    std::fs::remove_dir_all(&pins).unwrap();
}
