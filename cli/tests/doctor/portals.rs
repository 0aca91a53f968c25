//! How descriptors would go to a queue; and that nobody is disturbed by the look.

use std::fs;

use memring::dsa::Way;

use super::said::{BOOT, Said};
use super::support::refuse::{Refusal, refusal_of, refuse};
use super::tree::Tree;

/// Each open for reading and writing fails like this: the queue's is the only one.
const fn opening(errno: i32) -> [Refusal; 1] {
    [refusal_of(libc::SYS_openat, 2, libc::O_RDWR.cast_unsigned(), errno)]
}

fn asked(tree: &Tree, way: &str) -> Said {
    Said::by(tree, |command| _ = command.env(Way::VARIABLE, way))
}

/// Each way is tried, and nothing is written to the queue.
#[test]
fn which_portal_and_why() {
    for (mode, instruction) in [("shared", "ENQCMD"), ("dedicated", "MOVDIR64B")] {
        let tree = Tree::right();
        tree.set("devices/dsa0/wq0.0/mode", &format!("{mode}\n"));
        tree.set("dev/dsa/wq0.0", "untouched");
        let written = asked(&tree, "write");
        let by = "descriptors go by write(2), since ";
        assert_eq!(written.check("wq0.0 portal"), ("ok", &*format!("{by}MEMRING_DSA_PORTAL asks for it")));
        assert_eq!(written.queue("wq0.0")["portal"].as_str(), Some("write"));
        assert_eq!(written.check("MEMRING_DSA_PORTAL"), ("ok", "it asks for write"));
        let mapped = asked(&tree, "mmap");
        assert_eq!(mapped.queue("wq0.0")["portal"].as_str(), Some("mmap"));
        // The best depends on the CPU, of which JSON tells.
        let best = Said::of(&tree);
        let (queue, says) = (best.queue("wq0.0"), best.check("wq0.0 portal"));
        if best.json["cpu"][instruction.to_lowercase()].as_bool().unwrap() {
            assert_eq!((queue["portal"].as_str(), queue["portal_why"].as_str()), (Some("mmap"), None));
            assert_eq!(says, ("ok", "descriptors go through a mapped portal (mmap)"));
            assert_eq!(mapped.check("wq0.0 portal"), says);
        } else {
            let why = format!("this CPU has no {instruction}");
            assert_eq!((queue["portal"].as_str(), queue["portal_why"].as_str()), (Some("write"), Some(&*why)));
            assert_eq!(says, ("ok", &*format!("{by}{why}")));
            let (state, says) = mapped.check("wq0.0 portal");
            assert_eq!(state, "ok");
            assert!(says.starts_with(&format!("descriptors go through a mapped portal (mmap); {why}, so ")), "{says}");
        }
        assert_eq!(fs::read_to_string(tree.path("dev/dsa/wq0.0")).unwrap(), "untouched");
    }
}

/// INTEL-SA-01084: the kernel does not map devices that it holds for unsafe, and writing is the way.
#[test]
fn a_portal_that_the_kernel_does_not_map() {
    let not_mapped = |errno| {
        let populate = refusal_of(libc::SYS_mmap, 3, libc::MAP_POPULATE.cast_unsigned(), errno);
        Said::by(&Tree::right(), move |command| {
            command.env(Way::VARIABLE, "mmap");
            refuse(command, &[populate]);
        })
    };
    let said = not_mapped(libc::EPERM);
    let (state, says) = said.check("wq0.0 portal");
    assert_eq!((state, said.queue("wq0.0")["portal"].as_str()), ("ok", Some("write")));
    assert!(says.ends_with("only for processes with CAP_SYS_RAWIO (INTEL-SA-01084)"), "{says}");
    // Any other error is one. An io_uring is mapped likewise, so it is refused as well.
    let said = not_mapped(libc::EAGAIN);
    let problems = said.problems();
    assert_eq!(
        problems[0],
        ("wq0.0", "it cannot be mapped: Resource temporarily unavailable (os error 11) (dev/dsa/wq0.0)", None)
    );
    assert_eq!(said.json["dsa"]["unusable"][0]["reason"].as_str(), Some("not_mapped"));
}

#[test]
fn a_wish_for_a_way_that_is_none() {
    let said = asked(&Tree::right(), "\u{1b}mapp");
    let says = "it says \"\\u{1b}mapp\" and is ignored: a way is one of best, mmap, write";
    assert_eq!(said.problem(), ("MEMRING_DSA_PORTAL", says, Some("unset MEMRING_DSA_PORTAL")));
    assert_eq!(asked(&Tree::right(), "").problems(), []);
}

/// It works, for somebody. Nor is it opened, which would keep its user out: an attempt would fail here, and be told.
#[test]
fn a_dedicated_queue_that_somebody_has_is_left_alone() {
    for (mode, clients, is_opened) in [("dedicated", "1\n", false), ("dedicated", "0\n", true), ("shared", "1\n", true)]
    {
        let tree = Tree::right();
        tree.set("devices/dsa0/wq0.0/mode", &format!("{mode}\n"));
        tree.set("devices/dsa0/wq0.0/clients", clients);
        let said = Said::by(&tree, |command| refuse(command, &opening(libc::EIO)));
        if is_opened {
            assert_eq!(
                said.problem(),
                ("wq0.0", "it cannot be opened: Input/output error (os error 5) (dev/dsa/wq0.0)", None)
            );
        } else {
            is_in_use(&said);
        }
    }
}

/// Somebody took it since, or the kernel does not count.
#[test]
fn a_dedicated_queue_that_turns_out_to_be_taken() {
    let tree = Tree::right();
    tree.set("devices/dsa0/wq0.0/mode", "dedicated\n");
    is_in_use(&Said::by(&tree, |command| refuse(command, &opening(libc::EBUSY))));
}

fn is_in_use(said: &Said) {
    assert_eq!(said.problems(), []);
    let says = "in use: the queue is dedicated, and somebody has it; who, says sudo fuser -v dev/dsa/wq0.0";
    assert_eq!(said.check("wq0.0 portal"), ("ok", says));
    let queue = said.queue("wq0.0");
    assert_eq!((queue["in_use"].as_bool(), queue["portal"].as_str()), (Some(true), None));
}

/// The only one is in use, and the others are nobody's: nothing is broken.
#[test]
fn a_queue_in_use_counts_as_one_that_can_be_used() {
    let tree = Tree::right();
    tree.set("devices/dsa0/wq0.0/mode", "dedicated\n");
    tree.set("devices/dsa0/wq0.0/clients", "1\n");
    tree.add_queue("dsa0", "wq0.1");
    tree.set("devices/dsa0/wq0.1/state", "disabled\n");
    let said = Said::of(&tree);
    assert_eq!((said.problems(), said.check("wq0.1").0), (vec![], "not_here"));
}

#[test]
fn a_queue_that_cannot_be_opened() {
    for (errno, words, remedy) in [
        (libc::ENODEV, "No such device (os error 19)", Some(BOOT)),
        (libc::ENXIO, "No such device or address (os error 6)", Some(BOOT)),
        (libc::ENOMEM, "Cannot allocate memory (os error 12)", None),
    ] {
        let said = Said::by(&Tree::right(), |command| refuse(command, &opening(errno)));
        let says = format!("it cannot be opened: {words} (dev/dsa/wq0.0)");
        assert_eq!(said.problem(), ("wq0.0", says.as_str(), remedy));
        assert_eq!(said.queue("wq0.0")["portal"].as_str(), None);
    }
}
