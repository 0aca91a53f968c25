//! What a device could not do: pages that are missing, and failures of its own.
#![expect(unsafe_code, reason = "maps pages")]

use memring::dsa::model::{Chance, Faults};
use memring::dsa::{DsaOpcode, OnFault, RecordStatus};
use memring::queue::Builder;
use memring::{Sqe, Status};

use super::device::Plan;
use super::rig::{DONE, Rig, copies, noise};

/// Each copy stops once for its source and once for its destination, at this offset, until the page was mapped.
fn faulty(operand: u8, offset: u32) -> Plan {
    Plan::default().set(|settings| settings.faults = Faults::At { operand, offset })
}

#[test]
fn by_default_a_device_goes_on_behind_the_page() {
    let (src, mut dst) = (noise(64 << 10), vec![0; 64 << 10]);
    let plan = Plan::default().set(|settings| {
        settings.faults = Faults::Random(Chance::one_in(2));
        settings.turns_copies = true;
    });
    let mut rig = Rig::of(&plan);
    assert_eq!(rig.run(&copies(&mut dst, &src, 4 << 10)), [DONE; 16]);
    assert_eq!((dst == src, rig.stats().fallbacks), (true, 0));
    let sent: usize = rig.device().take().iter().map(|entry| entry.members().len()).sum();
    assert!(sent > 20, "{sent}: some were sent more than once");
}

#[test]
fn a_device_that_stops_again_and_again_is_helped_out_by_the_cpu() {
    let (src, mut dst) = (noise(1000), vec![0; 1000]);
    let mut rig = Rig::of(&faulty(3, 0));
    assert_eq!(rig.run(&copies(&mut dst, &src, 1000)), [DONE]);
    assert_eq!((dst == src, rig.stats().fallbacks), (true, 1));
    assert_eq!(rig.device().take().len(), 9);
}

#[test]
fn by_choice_the_cpu_does_the_rest() {
    let (src, mut dst) = (noise(1000), vec![0; 1000]);
    for operand in [1, 3] {
        dst.fill(0);
        let mut rig = Rig::on_fault(&faulty(operand, 600), OnFault::Cpu);
        assert_eq!(rig.run(&copies(&mut dst, &src, 1000)), [DONE]);
        assert_eq!((dst == src, rig.stats().fallbacks, rig.device().take().len()), (true, 1, 1));
    }
}

#[test]
fn by_choice_the_operation_fails_with_the_offset() {
    let (src, mut dst) = (noise(1000), vec![0; 1000]);
    for operand in [1, 3] {
        let mut rig = Rig::on_fault(&faulty(operand, 600), OnFault::Fail);
        assert_eq!(rig.run(&copies(&mut dst, &src, 1000)), [(Status::FAULT, 600)]);
        assert_eq!((&dst[..600], rig.stats().fallbacks), (&src[..600], 0));
    }
    let mut rig = Rig::on_fault(&faulty(3, 100), OnFault::Fail);
    assert_eq!(rig.run(&[Sqe::memset(dst.as_mut_ptr(), 1, 1000)]), [(Status::FAULT, 100)]);
}

#[test]
fn memory_that_is_not_there_is_a_fault_and_the_process_lives() {
    let mut bytes = vec![0_u8; 100];
    let nowhere = std::ptr::without_provenance_mut(64);
    let start = bytes.as_mut_ptr();
    for on_fault in [OnFault::Resume, OnFault::Cpu, OnFault::Fail] {
        let mut rig = Rig::on_fault(&Plan::default(), on_fault);
        let sqes = [
            Sqe::memcpy(start, nowhere, 50),
            Sqe::memset(start.wrapping_add(50), 9, 50),
            Sqe::memset(nowhere.wrapping_add(100), 1, 100),
            Sqe::flush(nowhere.wrapping_add(200), 100),
        ];
        let fault = (Status::FAULT, 0);
        assert_eq!(rig.run(&sqes), [fault, DONE, fault, fault], "{on_fault:?}");
        assert_eq!(&bytes[50..], [9; 50]);
    }
}

#[test]
fn a_failure_of_the_device_is_told_with_its_status() {
    let (src, mut dst) = (noise(1000), vec![0; 1000]);
    let plan = Plan::default().set(|settings| settings.breakdowns = Chance::ALWAYS);
    let mut rig = Rig::of(&plan);
    let hardware = [RecordStatus::TRANSLATION_ERROR, RecordStatus::WRITE_ERROR, RecordStatus::HARDWARE_ERROR];
    for (status, value) in rig.run(&copies(&mut dst, &src, 10)) {
        assert_eq!(status, Status::JOB_CORRUPTED);
        assert!(hardware.iter().any(|status| u32::from(status.to_u8()) == value), "{value:#x}");
    }
}

#[test]
fn what_a_device_refuses_before_it_begins_the_cpu_does() {
    let (src, mut dst) = (noise(3000), vec![0; 3000]);
    let mut plan = Plan::default();
    plan.device.max_transfer_bytes = 512;
    let mut rig = Rig::of(&plan);
    assert_eq!(rig.run(&copies(&mut dst, &src, 3000)), [DONE]);
    assert_eq!((dst == src, rig.stats().fallbacks), (true, 0), "it is told the truth, and keeps to it");
    dst.fill(0);
    // The mover is told of a longer limit than the device has.
    let mut rig = Rig::of(&Plan { told: Some(Plan::default().device), ..plan });
    assert_eq!(rig.run(&copies(&mut dst, &src, 1000)), [DONE; 3]);
    assert_eq!((dst == src, rig.stats().fallbacks), (true, 3));
}

/// A page of these permissions.
fn page(permissions: libc::c_int) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, permissions, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page.cast()
}

#[test]
fn memory_that_may_not_be_accessed_is_a_fault_and_the_process_lives() {
    let mut bytes = vec![0_u8; 200];
    let start = bytes.as_mut_ptr();
    let (constant, closed) = (page(libc::PROT_READ), page(libc::PROT_NONE));
    let fault = (Status::FAULT, 0);
    // A device in software cannot stop there: it is told to stop once, and the kernel says why it must not go on.
    for operand in [1, 3] {
        let mut rig = Rig::of(&faulty(operand, 0));
        let sqes = [
            Sqe::memset(constant, 1, 100),
            Sqe::memcpy(constant.wrapping_add(200), start, 100),
            Sqe::memcpy(start.wrapping_add(100), closed, 100),
        ];
        let sqes = if operand == 1 { &sqes[2..] } else { &sqes[..2] };
        assert!(rig.run(sqes).iter().all(|end| *end == fault), "operand {operand}");
    }
    // The last page there could be.
    let edge = std::ptr::without_provenance_mut(usize::MAX - 100);
    let mut rig = Rig::of(&Plan::default());
    let ends = rig.run(&[Sqe::memset(edge, 1, 100)]);
    assert_eq!(ends, [fault]);
}

#[test]
fn the_queues_fault_guard_covers_what_the_cpu_does() {
    let mut bytes = vec![7_u8; 200];
    let start = bytes.as_mut_ptr();
    let closed = page(libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: nobody accesses the page but the operations.
    unsafe {
        assert_eq!(libc::mprotect(closed.cast(), 4096, libc::PROT_NONE), 0);
    }
    let plan = Plan::default().without(DsaOpcode::FILL).without(DsaOpcode::MEMMOVE);
    let mut rig = Rig::built(&[plan], |dsa| dsa, Builder::fault_guard);
    let sqes = [
        Sqe::memset(closed, 1, 100),
        Sqe::memcpy(start, closed.wrapping_add(500), 100),
        Sqe::memset(start.wrapping_add(100), 1, 100),
    ];
    assert_eq!(rig.run(&sqes), [(Status::FAULT, 0), (Status::FAULT, 0), DONE]);
}
