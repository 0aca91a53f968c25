//! What is promised of a mount, from the text of `mountinfo` alone: the machine of a test has only few kinds.

#[path = "../src/mounts.rs"]
mod mounts;

use mounts::{Durable, Mount};

const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=continue
23 22 0:21 / /dev/shm rw,nosuid,nodev shared:2 master:3 - tmpfs tmpfs rw
24 22 8:1 / /mnt/with\\040space\\134and\\011tab rw - xfs /dev/sda1 rw,attr2
25 22 0:40 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
26 22 0:41 / /lost rw - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w,volatile
27 22 8:2 / /fast rw - ext4 /dev/sdb1 rw,nobarrier
28 22 0:42 / /remote rw - nfs4 server:/x rw,vers=4.2
29 22 0:43 / /ssh rw - fuse.sshfs me@there: rw,user_id=0
30 22 0:44 / /odd rw - oddfs odd rw
31 22 broken
222 22 0:45 / /btrfs rw - btrfs /dev/sdc rw
";

fn mount(id: u64) -> Mount {
    Mount::find(MOUNTS, id).expect("it is in the text")
}

#[test]
fn a_mount_is_found_by_its_id() {
    assert_eq!((mount(22).kind.as_str(), mount(22).at.as_str()), ("ext4", "/"));
    assert_eq!(mount(23).at, "/dev/shm");
    assert_eq!(mount(222).kind, "btrfs");
    assert_eq!(mount(24).at, "/mnt/with space\\and\ttab");
    assert!(mount(22).options.iter().any(|option| option == "errors=continue"));
    for id in [2, 31, 99] {
        assert_eq!(Mount::find(MOUNTS, id), None);
    }
    assert_eq!(Mount::find("", 22), None);
}

#[test]
fn a_backslash_that_is_no_escape_stays() {
    let at = |escaped: &str| Mount::find(&format!("1 1 0:1 / {escaped} rw - ext4 d rw"), 1).expect("it is a line").at;
    assert_eq!(at("/a\\"), "/a\\");
    assert_eq!(at("/a\\9"), "/a\\9");
    assert_eq!(at("/a\\999b"), "/a\\999b");
    assert_eq!(at("/a\\é"), "/a\\é");
}

#[test]
fn promises() {
    assert_eq!(mount(22).durable(), Durable::Yes);
    assert_eq!(mount(24).durable(), Durable::Yes);
    assert_eq!(mount(222).durable(), Durable::Yes);
    for id in [23, 26] {
        assert!(matches!(mount(id).durable(), Durable::No(_)), "{:?}", mount(id));
    }
    for (id, word) in [(25, "upper layer"), (27, "barriers"), (28, "server"), (29, "program"), (30, "oddfs")] {
        let Durable::Depends(why) = mount(id).durable() else { panic!("{:?}", mount(id)) };
        assert!(why.contains(word), "{why}");
    }
}
