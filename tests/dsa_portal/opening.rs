//! From a queue that was found to its portal: which way it goes, and why it may not.

use std::fs;
use std::process::Command;

use memring::dsa::{Mode, Reason, Roots, Stopped, Submitted, Unusable, Way, WorkQueue, discover, open};
use tempfile::TempDir;

use super::child::in_child;
use super::descriptors::{copies, submit};
use super::filter::refuse;
use super::trap::trapped;

/// A machine with one queue, by the attributes that nobody can do without.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new(mode: Mode) -> Self {
        let folder = TempDir::new().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("bus/dsa3/state", "enabled\n");
        put("bus/dsa3/version", "0x100\n");
        for (name, text) in [("type", "user"), ("state", "enabled"), ("mode", &mode.to_string()), ("size", "16")] {
            put(&format!("bus/dsa3/wq3.1/{name}"), &format!("{text}\n"));
        }
        let machine = Self { folder };
        fs::create_dir(machine.folder.path().join("dev")).unwrap();
        fs::write(machine.node(), vec![0; 4096]).unwrap();
        machine
    }

    fn node(&self) -> std::path::PathBuf {
        self.folder.path().join("dev/wq3.1")
    }

    fn queue(&self) -> WorkQueue {
        let roots = Roots { sysfs: self.folder.path().join("bus"), dev: self.folder.path().join("dev") };
        let found = discover(&roots);
        assert_eq!(found.unusable, []);
        found.usable.into_iter().next().unwrap()
    }

    /// Why it cannot be opened.
    fn refusal(&self, way: Way) -> Unusable {
        let queue = self.queue();
        self.refusal_of(&queue, way)
    }

    fn refusal_of(&self, queue: &WorkQueue, way: Way) -> Unusable {
        let unusable = open(queue, way).unwrap_err();
        assert_eq!((unusable.path.as_path(), unusable.queue), (self.node().as_path(), Some(queue.id)));
        unusable
    }
}

#[test]
fn a_queue_is_found_opened_and_submitted_to() {
    trapped(|notes| {
        for (mode, letters) in [(Mode::Dedicated, "MMM"), (Mode::Shared, "EEE")] {
            let machine = Machine::new(mode);
            let mut opened = open(&machine.queue(), Way::Mmap).unwrap();
            assert_eq!(opened.way, Way::Mmap);
            assert_eq!(submit(&mut *opened.portal, &copies(3)), Submitted { accepted: 3, stopped: None });
            assert_eq!(notes.letters(), letters);
        }
    });
}

#[test]
fn by_the_kernel_if_it_is_wished() {
    let machine = Machine::new(Mode::Dedicated);
    let mut opened = open(&machine.queue(), Way::Write).unwrap();
    assert_eq!((opened.way, opened.portal.passes_batch(), opened.portal.room()), (Way::Write, false, 16));
    let submitted = submit(&mut *opened.portal, &copies(20));
    assert_eq!(submitted, Submitted { accepted: 16, stopped: Some(Stopped::Busy) });
}

/// On a CPU without the instructions the best way is the kernel's, and no signal comes.
#[test]
fn the_best_way_is_one_that_this_cpu_can_go() {
    trapped(|notes| {
        let mut opened = open(&Machine::new(Mode::Shared).queue(), Way::Best).unwrap();
        assert_eq!(opened.way, Way::Write);
        assert_eq!(submit(&mut *opened.portal, &copies(3)), Submitted { accepted: 3, stopped: None });
        assert_eq!(notes.letters(), "");
    });
}

/// INTEL-SA-01084: the kernel does not map devices that it holds for unsafe.
#[test]
fn by_the_kernel_if_it_does_not_map() {
    in_child(|| {
        let machine = Machine::new(Mode::Shared);
        refuse(libc::SYS_mmap, libc::PROT_WRITE, libc::EPERM);
        let mut opened = open(&machine.queue(), Way::Mmap).unwrap();
        assert_eq!(opened.way, Way::Write);
        assert_eq!(submit(&mut *opened.portal, &copies(3)), Submitted { accepted: 3, stopped: None });
    });
}

#[test]
fn other_errors_of_mapping_are_told() {
    let machine = Machine::new(Mode::Shared);
    let queue = machine.queue();
    fs::remove_file(machine.node()).unwrap();
    assert!(Command::new("mkfifo").arg(machine.node()).status().unwrap().success());
    let unusable = machine.refusal_of(&queue, Way::Mmap);
    assert_eq!(unusable.reason, Reason::NotMapped(libc::ENODEV));
}

#[test]
fn a_dedicated_queue_that_somebody_has() {
    in_child(|| {
        let machine = Machine::new(Mode::Dedicated);
        refuse(libc::SYS_openat, libc::O_RDWR | libc::O_CLOEXEC, libc::EBUSY);
        let unusable = machine.refusal(Way::Best);
        assert_eq!(unusable.reason, Reason::InUse);
        assert_eq!(unusable.remedy.unwrap(), format!("sudo fuser -v {}", machine.node().display()));
    });
}

/// The driver counts who has a queue open, so nobody is kept out by a look.
#[test]
fn a_dedicated_queue_is_seen_to_be_taken_without_being_opened() {
    for (mode, clients, is_taken) in [
        (Mode::Dedicated, "1\n", true),
        (Mode::Dedicated, "0\n", false),
        (Mode::Dedicated, "many\n", false),
        (Mode::Shared, "3\n", false),
    ] {
        let machine = Machine::new(mode);
        let queue = machine.queue();
        assert_eq!(queue.taken(), None);
        fs::write(machine.folder.path().join("bus/dsa3/wq3.1/clients"), clients).unwrap();
        let taken = queue.taken().map(|unusable| (unusable.path, unusable.queue, unusable.reason));
        assert_eq!(taken, is_taken.then(|| (machine.node(), Some(queue.id), Reason::InUse)), "{mode} {clients:?}");
    }
}

#[test]
fn an_address_space_that_the_driver_cannot_bind() {
    for (errno, has_remedy) in [(libc::ENODEV, true), (libc::EINVAL, true), (libc::ENOMEM, false)] {
        in_child(|| {
            let machine = Machine::new(Mode::Dedicated);
            refuse(libc::SYS_openat, libc::O_RDWR | libc::O_CLOEXEC, errno);
            let unusable = machine.refusal(Way::Best);
            assert_eq!((unusable.reason, unusable.remedy.is_some()), (Reason::NotOpened(errno), has_remedy));
        });
    }
}

#[test]
fn a_device_file_that_is_gone() {
    let machine = Machine::new(Mode::Dedicated);
    let queue = machine.queue();
    fs::remove_file(machine.node()).unwrap();
    assert_eq!(machine.refusal_of(&queue, Way::Best).reason, Reason::NoNode);
}

#[test]
fn ways_have_names() {
    let ways: Vec<_> = ["best", "mmap", "write"].iter().map(|name| name.parse()).collect();
    assert_eq!(ways, [Ok(Way::Best), Ok(Way::Mmap), Ok(Way::Write)]);
    assert_eq!("".parse::<Way>().unwrap_err().to_string(), "a way is one of best, mmap, write");
}
