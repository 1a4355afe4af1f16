//! Programs that count what they execute do what the others do, and count right.

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya_obj::generated::bpf_insn;
use bpf_tests::{Code, Counter, Frame, Outcome, Rig, load_counting};

fn instruction(code: u8, registers: (u8, u8), off: i16, imm: i32) -> bpf_insn {
    let _bitfield_1 = bpf_insn::new_bitfield_1(registers.0, registers.1);
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1, off, imm }
}

/// Runs code twice as it counts; returns what it returns, and the instructions of a run.
fn run_counting(code: &[bpf_insn]) -> (u32, u64) {
    let rig = Rig::new();
    let (counter, pin) = (Counter::create(), rig.settings().dir.join("by_hand"));
    let code = Code { name: "by_hand", instructions: code, functions: &[], btf_id: None };
    load_counting(&code, &counter, &pin).unwrap_or_else(|problem| panic!("{problem}"));
    let program = SchedClassifier::from_pin(&pin).unwrap();
    std::fs::remove_file(&pin).unwrap();
    let run = || {
        let before = counter.total();
        let options = TestRunOptions { data_in: Some(&[0; 64]), ..TestRunOptions::default() };
        (program.test_run(options).unwrap().return_value, counter.total() - before)
    };
    let first = run();
    assert_eq!(run(), first);
    first
}

#[test]
fn program_that_can_be_counted_by_hand_is_counted_right() {
    // Goes round three times, with a call each time.
    let code = [
        // r6 = 3 ll
        instruction(0x18, (6, 0), 0, 3),
        instruction(0, (0, 0), 0, 0),
        // r1 = r6; call 8; r6 -= 1; if r6 != 0 goto 2
        instruction(0xbf, (1, 6), 0, 0),
        instruction(0x85, (0, 1), 0, 4),
        instruction(0x17, (6, 0), 0, 1),
        instruction(0x55, (6, 0), -4, 0),
        // r0 = 42; exit
        instruction(0xb7, (0, 0), 0, 42),
        instruction(0x95, (0, 0), 0, 0),
        // r0 = r1; exit
        instruction(0xbf, (0, 1), 0, 0),
        instruction(0x95, (0, 0), 0, 0),
    ];
    assert_eq!(run_counting(&code), (42, 1 + 3 * 6 + 2));
}

#[test]
fn registers_that_counting_borrows_get_their_values_back() {
    // rN = N, of all ten; a jump that is not taken; then the sum of all, with something on the stack.
    let mut code: Vec<bpf_insn> =
        (0..10).map(|register| instruction(0xb7, (register, 0), 0, register.into())).collect();
    code.push(instruction(0x7b, (10, 9), -8, 0));
    code.push(instruction(0x15, (0, 0), 12, 7));
    code.extend((1..10).map(|register| instruction(0x0f, (0, register), 0, 0)));
    code.push(instruction(0x79, (1, 10), -8, 0));
    code.push(instruction(0x0f, (0, 1), 0, 0));
    code.push(instruction(0x95, (0, 0), 0, 0));
    code.push(instruction(0x95, (0, 0), 0, 0));
    assert_eq!(run_counting(&code), (45 + 9, 12 + 12));
}

/// Flows are opened, replied to, translated, refused and dropped.
fn conversation(rig: &Rig) -> Vec<Outcome> {
    let (a, b, peer, internet) = ((Rig::POD_A, 40_000), (Rig::POD_B, 80), (Rig::PEER, 80), (Rig::INTERNET, 80));
    let (a6, internet6) = ((Rig::POD_A6, 40_000), (Rig::INTERNET6, 443));
    let opened = rig.from_pod_a(&Frame::tcp(a, internet, "S"));
    let translated = opened.frame.source();
    vec![
        opened,
        rig.from_wire(&Frame::tcp(internet, translated, "SA")),
        rig.from_pod_a(&Frame::tcp(a, internet, "A")),
        rig.from_pod_a(&Frame::tcp(a, b, "S")),
        rig.from_pod_b(&Frame::tcp(b, a, "SA")),
        rig.from_pod_a(&Frame::udp(a, peer)),
        rig.from_wire(&Frame::udp(peer, a)),
        rig.from_pod_a(&Frame::tcp(b, peer, "A")),
        rig.from_pod_a(&Frame::tcp(a6, internet6, "S")),
        rig.to_wire(&Frame::udp((Rig::NODE, 1), peer)),
        rig.stack_to_pod_a(&Frame::udp((Rig::NODE, 1), a)),
        rig.to_wire(&Frame::tcp(a, (Rig::INTERNET, 8080), "S")),
    ]
}

#[test]
fn programs_that_count_do_to_packets_what_the_others_do() {
    let expected = conversation(&Rig::new());
    let mut counting = Rig::new();
    let counter = counting.count_instructions();
    let found = conversation(&counting);
    assert!(counter.total() > 50 * expected.len() as u64, "{} instructions", counter.total());
    for (number, (expected, found)) in expected.iter().zip(&found).enumerate() {
        let seen =
            |outcome: &Outcome| (outcome.verdict, outcome.frame.bytes.clone(), outcome.mark, outcome.drops.clone());
        assert_eq!(seen(found), seen(expected), "packet {number}");
    }
}

#[test]
fn same_packet_takes_as_many_instructions_every_time() {
    let mut rig = Rig::new();
    let counter = rig.count_instructions();
    // From a source that is not the pod's: nothing is remembered of it.
    let count = || {
        let before = counter.total();
        let _ = rig.from_pod_a(&Frame::udp((Rig::POD_B, 40_000), (Rig::PEER, 80)));
        counter.total() - before
    };
    let first = count();
    assert!(first > 20, "{first} instructions");
    assert_eq!([count(), count()], [first; 2]);
}
