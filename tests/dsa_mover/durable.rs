//! Regions: what is to be durable, and what is in the page cache.
#![expect(unsafe_code, reason = "maps files, and pushes entries")]

use std::fs::File;

use memmap2::MmapMut;
use memring::dsa::model::Faults;
use memring::dsa::{DsaOpcode, Flags, GenCap, OnFault};
use memring::queue::{Builder, PushError};
use memring::region::{Backing, MappedFile, Region};
use memring::{OpFlags, Sqe, Status, WORKERS};

use super::device::{Plan, has};
use super::rig::{DONE, Rig, noise};

const PAGE: usize = 4096;

/// A page of a file, mapped for the rest of the process's life.
fn mapped(folder: &str) -> (File, MappedFile) {
    let file = tempfile::tempfile_in(folder).unwrap();
    file.set_len(PAGE as u64).unwrap();
    // SAFETY: the file is this test's own.
    let mapping = Box::leak(Box::new(unsafe { MmapMut::map_mut(&file) }.unwrap()));
    // SAFETY: it stays mapped, and nobody else has it.
    let mapped = unsafe { MappedFile::from_raw(&file, mapping.as_mut_ptr(), mapping.len(), 0) };
    (file, mapped)
}

fn on_disk(rig: &Rig) -> Region {
    rig.sq.register(mapped(env!("CARGO_TARGET_TMPDIR")).1).unwrap()
}

fn on_dax(rig: &Rig) -> Region {
    // SAFETY: no power fails here, and nobody relies on more.
    rig.sq.register(unsafe { mapped(env!("CARGO_TARGET_TMPDIR")).1.assume_dax() }).unwrap()
}

#[test]
fn on_persistent_memory_the_device_reads_back_what_it_wrote() {
    let src = noise(PAGE);
    let mut rig = Rig::of(&Plan::default());
    let region = on_dax(&rig);
    let copy = Sqe::memcpy(region.as_mut_ptr(), src.as_ptr(), PAGE);
    assert_eq!(rig.run(&[copy.flags(OpFlags::MEM_DURABLE)]), [DONE]);
    let entries = rig.device().take();
    let [member] = entries[0].members() else { panic!("{entries:?}") };
    assert!(has(member, Flags::DESTINATION_READBACK) && !has(member, Flags::CACHE_CONTROL));
    assert_eq!(rig.stats().fallbacks, 0);
    // What need not be durable is as everywhere.
    assert_eq!(rig.run(&[copy]), [DONE]);
    let entries = rig.device().take();
    assert!(!has(&entries[0].members()[0], Flags::DESTINATION_READBACK));
}

#[test]
fn where_it_cannot_the_cpu_writes_back() {
    let src = noise(PAGE);
    let mut plan = Plan::default();
    plan.device.gen_cap = plan.device.gen_cap.without(GenCap::DESTINATION_READBACK);
    // Where regions are not looked at, chains go together.
    let mut rig = Rig::with(&[plan], |dsa| dsa.writes_page_cache(true));
    let region = on_dax(&rig);
    let copy = Sqe::memcpy(region.as_mut_ptr(), src.as_ptr(), PAGE).flags(OpFlags::MEM_DURABLE);
    // What follows a durable one begins when that is durable.
    assert_eq!(rig.run(&[copy.link(), Sqe::nop()]), [DONE; 2]);
    let entries = rig.device().take();
    assert_eq!(entries.iter().map(|entry| entry.members().len()).collect::<Vec<_>>(), [1, 1]);
    assert!(!has(&entries[0].members()[0], Flags::DESTINATION_READBACK));
    assert_eq!(rig.stats().fallbacks, 1);
}

#[test]
fn what_goes_to_a_disk_the_cpu_copies() {
    let src = noise(PAGE);
    let mut rig = Rig::of(&Plan::default());
    let region = on_disk(&rig);
    assert_eq!(region.backing(), Backing::PageCache);
    let copy = Sqe::memcpy(region.as_mut_ptr(), src.as_ptr(), PAGE);
    assert_eq!(rig.run(&[copy]), [DONE]);
    assert_eq!((rig.device().take().len(), rig.stats().fallbacks), (0, 1));
    // Durable, it is the CPU mover's from the beginning.
    let durable = copy.flags(OpFlags::MEM_DURABLE);
    assert_eq!(rig.run(&[durable]), [DONE]);
    assert_eq!((rig.device().take().len(), rig.cq.stats().fsyncs), (0, 1));
    assert_eq!(rig.cq.stats().mover(WORKERS).bytes, PAGE as u64);
    // A chain is looked at member by member.
    let mut other = [0_u8; 64];
    let set = Sqe::memset(other.as_mut_ptr(), 9, 64);
    assert_eq!(rig.run(&[set.link(), copy.link(), set]), [DONE; 3]);
    assert_eq!((rig.device().take().len(), rig.stats().fallbacks), (2, 2));
    // Elsewhere the device copies, regions or not.
    let mut third = [0_u8; 64];
    assert_eq!(rig.run(&[set, Sqe::memset(third.as_mut_ptr(), 9, 64)]), [DONE; 2]);
    assert_eq!(rig.device().take().len(), 1);
    assert_eq!((other, third), ([9; 64], [9; 64]));
}

#[test]
fn by_choice_the_device_writes_to_the_page_cache() {
    let src = noise(PAGE);
    let mut rig = Rig::with(&[Plan::default()], |dsa| dsa.writes_page_cache(true));
    let region = on_disk(&rig);
    assert_eq!(rig.run(&[Sqe::memcpy(region.as_mut_ptr(), src.as_ptr(), PAGE)]), [DONE]);
    assert_eq!((rig.device().take().len(), rig.stats().fallbacks), (1, 0));
}

#[test]
fn what_it_cannot_make_durable_is_refused_at_the_push() {
    let mut buffer = [0_u8; 64];
    let mut rig = Rig::of(&Plan::default());
    let region = on_disk(&rig);
    let mover = rig.mover;
    let mut push = |sqe: Sqe| {
        // SAFETY: the buffer and the mapping outlive the rig.
        unsafe { rig.sq.push(sqe.on(mover)) }.unwrap_err()
    };
    let set = Sqe::memset(buffer.as_mut_ptr(), 1, 64).flags(OpFlags::MEM_DURABLE);
    assert!(matches!(push(set), PushError::NotDurable(_)), "plain memory");
    let flush = Sqe::flush(buffer.as_ptr(), 64).flags(OpFlags::MEM_DURABLE);
    assert!(matches!(push(flush), PushError::NotDurable(_)), "plain memory");
    let flush = Sqe::flush(region.as_mut_ptr(), PAGE);
    assert!(matches!(push(flush), PushError::Unsupported(_)), "a device's flush is no fsync");
}

/// The end of a durable copy whose destination is gone when the device has copied.
fn of_a_page_that_is_gone(plan: Plan) -> (Status, u32) {
    let src = noise(PAGE);
    let mut rig = Rig::built(&[plan], |dsa| dsa, Builder::fault_guard);
    let region = on_dax(&rig);
    rig.device().spoil(region.as_mut_ptr());
    let ends = rig.run(&[Sqe::memcpy(region.as_mut_ptr(), src.as_ptr(), PAGE).flags(OpFlags::MEM_DURABLE)]);
    ends[0]
}

#[test]
fn to_write_back_is_to_touch_it() {
    assert_eq!(of_a_page_that_is_gone(Plan::default()), DONE);
    let mut plan = Plan::default();
    plan.device.gen_cap = plan.device.gen_cap.without(GenCap::DESTINATION_READBACK);
    assert_eq!(of_a_page_that_is_gone(plan), (Status::FAULT, 0));
}

#[test]
fn what_no_record_of_success_covers_the_cpu_writes_back() {
    let src = noise(PAGE);
    let faulty = Plan::default().set(|settings| settings.faults = Faults::At { operand: 3, offset: 600 });
    // A piece by the CPU, and the write-back; several pieces by the device, and the write-back.
    for (on_fault, fallbacks) in [(OnFault::Cpu, 2), (OnFault::Resume, 1)] {
        let mut rig = Rig::on_fault(&faulty, on_fault);
        let region = on_dax(&rig);
        let copy = Sqe::memcpy(region.as_mut_ptr(), src.as_ptr(), PAGE).flags(OpFlags::MEM_DURABLE);
        assert_eq!(rig.run(&[copy]), [DONE]);
        assert_eq!(rig.stats().fallbacks, fallbacks, "{on_fault:?}");
    }
    // All of it by the CPU.
    let mut rig = Rig::of(&Plan::default().without(DsaOpcode::FILL));
    let region = on_dax(&rig);
    let set = Sqe::memset(region.as_mut_ptr(), 3, PAGE).flags(OpFlags::MEM_DURABLE);
    assert_eq!(rig.run(&[set]), [DONE]);
    assert_eq!((rig.stats().fallbacks, rig.device().take().len()), (2, 0));
}

#[test]
fn chains_beside_a_region_go_together() {
    let src = noise(PAGE);
    let mut other = [0_u8; 64];
    let mut rig = Rig::of(&Plan::default());
    let region = on_disk(&rig);
    let set = Sqe::memset(other.as_mut_ptr(), 9, 64);
    let copy = Sqe::memcpy(region.as_mut_ptr(), src.as_ptr(), PAGE);
    assert_eq!(rig.run(&[set.link(), set.link(), copy.link(), set.link(), set]), [DONE; 5]);
    let lengths: Vec<usize> = rig.device().take().iter().map(|entry| entry.members().len()).collect();
    assert_eq!((lengths, rig.stats().fallbacks), (vec![2, 2], 1));
}
