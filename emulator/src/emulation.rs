//! What there is once in a process: the queues, and where their portals are mapped. Everything that signal handlers and
//! interposed functions begin with.
//!
//! It is made when the library is loaded, from the sysfs that programs read, so there is one description of the
//! device. A forked child has no device thread, no portal, and nothing under way: its copy of the portals is emptied
//! ([`forked`]), and its queues are made anew when it first uses the device file ([`renewed`]). Not before: a child may
//! be forked where nothing can be allocated, by a handler that interrupted an allocation, or by an allocator that has
//! its own locks.
#![expect(unsafe_code, reason = "a pointer that signal handlers read")]

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use memring::dsa::{Roots, discover};

use crate::page::Page;
use crate::queue::{Identity, Queue};
use crate::settings::Settings;
use crate::{layout, process};

/// All of it, or null before it is made and in programs that are not emulated for.
static EMULATION: AtomicPtr<Emulation> = AtomicPtr::new(ptr::null_mut());

/// How many places for portals a process has from the beginning, and gets whenever they are taken.
const PORTALS: usize = 64;

/// The emulation. It is never freed: a handler may look at it at any time.
#[derive(Debug)]
pub(crate) struct Emulation {
    pub(crate) queues: Box<[Queue]>,
    pub(crate) settings: Settings,
    pub(crate) page: Page,
    /// The process that it is for.
    process: AtomicU32,
    /// The queues are a parent's.
    is_inherited: AtomicBool,
    portals: Portals,
}

/// Places for portals, and further ones, which are never freed.
#[derive(Debug)]
struct Portals {
    places: [Portal; PORTALS],
    /// Null, or leaked.
    further: AtomicPtr<Portals>,
}

impl Portals {
    fn new() -> Self {
        Self { places: core::array::from_fn(|_| Portal::default()), further: AtomicPtr::new(ptr::null_mut()) }
    }

    fn further(&self) -> Option<&Self> {
        let further = self.further.load(Ordering::Acquire); // Ordering: Acquire, partner: the Release in `extend`.
        // SAFETY: it is null, or was leaked and so lives for good; it is shared only.
        unsafe { further.as_ref() }
    }

    /// All the places.
    fn iter(&self) -> impl Iterator<Item = &Portal> {
        std::iter::successors(Some(self), |portals| portals.further()).flat_map(|portals| &portals.places)
    }

    /// Adds places at the end.
    fn extend(&self) {
        let new = Box::into_raw(Box::new(Self::new()));
        let mut last = self;
        // Ordering: AcqRel, partner: the Acquire in `further`.
        while last.further.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            last = last.further().unwrap_or(last);
        }
    }
}

/// A place for a mapped portal.
#[derive(Debug, Default)]
struct Portal {
    /// Its page's address; 0: the place is free; 1: it is being filled.
    address: AtomicUsize,
    /// Which of the queues.
    queue: AtomicUsize,
    /// The address that it had, while it is being unmapped; 0: it is not.
    leaves: AtomicUsize,
}

const BEING_FILLED: usize = 1;

/// The emulation of this process, if there is one.
pub(crate) fn current() -> Option<&'static Emulation> {
    let emulation = EMULATION.load(Ordering::Acquire); // Ordering: Acquire, partner: the Release in `publish`.
    // SAFETY: it is null, or was leaked and so lives for good; it is shared only.
    let emulation = unsafe { emulation.as_ref() }?;
    // A copy made by a raw clone has no device.
    // Ordering: Relaxed: a process has written its number while it had one thread.
    (emulation.process.load(Ordering::Relaxed) == std::process::id()).then_some(emulation)
}

/// True once in a process, and in none that is forked from it.
pub(crate) fn is_first() -> bool {
    static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
    !HAS_BEGUN.swap(true, Ordering::Relaxed) // Ordering: Relaxed: one gets it; what it makes is published.
}

/// Makes the emulation, when the library is loaded. False: there is none to make.
pub(crate) fn make(settings: Settings) -> bool {
    let Some(page) = Page::map(settings.page.as_deref()) else { return false };
    // The emulation's own, whatever the program is told by its environment.
    let found = discover(&Roots::system());
    let identities: Vec<Identity> = found.usable.iter().filter_map(Identity::of).collect();
    publish(Emulation::new(identities, settings, page));
    true
}

/// Empties it in a child, of which this is the only thread yet. Async-signal-safe.
pub(crate) fn forked() {
    let before = EMULATION.load(Ordering::Acquire); // Ordering: as in `current`.
    // SAFETY: as in `current`.
    let Some(emulation) = (unsafe { before.as_ref() }) else { return };
    for portal in emulation.portals.iter() {
        portal.leaves.store(0, Ordering::Relaxed); // Ordering: Relaxed, all: there is one thread.
        portal.address.store(0, Ordering::Relaxed); // Ordering: as above.
    }
    emulation.is_inherited.store(true, Ordering::Relaxed); // Ordering: as above.
    emulation.process.store(std::process::id(), Ordering::Relaxed); // Ordering: as above.
}

/// The emulation with queues of this process: the same, or one that is made for a child.
pub(crate) fn renewed(before: &'static Emulation) -> &'static Emulation {
    if !before.is_inherited() {
        return before;
    }
    let identities = before.queues.iter().map(|queue| queue.identity.clone()).collect();
    let new = Box::into_raw(Box::new(Emulation::new(identities, before.settings.clone(), before.page)));
    let old = ptr::from_ref(before).cast_mut();
    // Ordering: Release, partner: the Acquire in `current`; Acquire, partner: this Release of another thread.
    let made = match EMULATION.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => new,
        Err(anothers) => {
            // SAFETY: it was made above, and nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
            anothers
        }
    };
    // SAFETY: what was published is never freed, and shared only.
    unsafe { &*made }
}

fn publish(emulation: Emulation) {
    // Ordering: Release, partner: the Acquire in `current`.
    EMULATION.store(Box::leak(Box::new(emulation)), Ordering::Release);
}

impl Emulation {
    fn new(identities: Vec<Identity>, settings: Settings, page: Page) -> Self {
        let queue = |identity| Queue::new(identity, page, settings.clone());
        Self {
            queues: identities.into_iter().map(queue).collect(),
            portals: Portals::new(),
            process: AtomicU32::new(std::process::id()),
            is_inherited: AtomicBool::new(false),
            settings,
            page,
        }
    }

    /// Whether the queues are those of a parent, of which nothing may be expected.
    pub(crate) fn is_inherited(&self) -> bool {
        self.is_inherited.load(Ordering::Relaxed) // Ordering: Relaxed: it is set while there is one thread.
    }

    /// The queue whose portal this address is in.
    pub(crate) fn portal(&self, address: u64) -> Option<&Queue> {
        let page = usize::try_from(address & !(process::PAGE - 1)).ok().filter(|page| *page > BEING_FILLED)?;
        // Ordering: Acquire, partner: the Release in `mapped`, which orders the number of the queue.
        let portal = self.portals.iter().find(|portal| portal.address.load(Ordering::Acquire) == page)?;
        self.queues.get(portal.queue.load(Ordering::Relaxed)) // Ordering: by the address.
    }

    /// A portal of the queue was mapped.
    pub(crate) fn mapped(&self, address: usize, queue: &Queue) {
        let take = |portal: &&Portal| {
            // Ordering: AcqRel, partner: the Release in `settle`, after the place's last use.
            portal.address.compare_exchange(0, BEING_FILLED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let portal = loop {
            if let Some(portal) = self.portals.iter().find(take) {
                break portal;
            }
            self.portals.extend();
        };
        let index = self.queues.iter().position(|one| ptr::eq(one, queue)).unwrap_or(usize::MAX);
        portal.queue.store(index, Ordering::Relaxed); // Ordering: Relaxed: by the address, below.
        portal.address.store(address, Ordering::Release); // Ordering: Release, partner: the Acquire of who looks.
        self.page.add(layout::MAPPED, 1);
    }

    /// Whether there are portals among these addresses.
    pub(crate) fn has_portals(&self, address: usize, len: usize) -> bool {
        let range = address..address.saturating_add(len);
        // Ordering: as in `portal`.
        self.portals.iter().any(|portal| range.contains(&portal.address.load(Ordering::Acquire)))
    }

    /// These addresses are about to be unmapped: the portals among them are nobody's from now on, and the device is
    /// done. What becomes of them is for [`settle`](Self::settle) to say.
    ///
    /// It comes before the unmapping: after that, another thread's new portal may have the address.
    pub(crate) fn take_out(&self, address: usize, len: usize) {
        let end = address.saturating_add(len);
        for portal in self.portals.iter() {
            let at = portal.address.load(Ordering::Acquire); // Ordering: as in `portal`.
            // Ordering: AcqRel: who gets it has the place to itself.
            let is_ours = at > BEING_FILLED
                && (address..end).contains(&at)
                && portal.address.compare_exchange(at, BEING_FILLED, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if is_ours {
                let queue = portal.queue.load(Ordering::Relaxed); // Ordering: by the address.
                if let Some(queue) = self.queues.get(queue) {
                    queue.wait_until_idle();
                }
                // Ordering: Release, partner: the Acquire in `settle`, by whichever thread.
                portal.leaves.store(at, Ordering::Release);
            }
        }
    }

    /// Says where what was taken out of these addresses is now: where it was, elsewhere, or, by 0, nowhere.
    pub(crate) fn settle(&self, address: usize, len: usize, is_now_at: impl Fn(usize) -> usize) {
        let end = address.saturating_add(len);
        for portal in self.portals.iter() {
            // Ordering: Acquire, partner: the Release in `take_out`.
            let at = portal.leaves.load(Ordering::Acquire);
            // Ordering: AcqRel: who gets it has the place to itself.
            if at != 0
                && (address..end).contains(&at)
                && portal.leaves.compare_exchange(at, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                // Ordering: Release, partner: who takes it in `mapped`, or looks in `portal`.
                portal.address.store(is_now_at(at), Ordering::Release);
            }
        }
    }

    /// Whether a portal of the queue is mapped.
    pub(crate) fn is_mapped(&self, queue: &Queue) -> bool {
        let of_queue = |portal: &Portal| {
            let index = portal.queue.load(Ordering::Relaxed); // Ordering: by the address.
            self.queues.get(index).is_some_and(|one| ptr::eq(one, queue))
        };
        // Ordering: as in `portal`.
        self.portals.iter().any(|portal| portal.address.load(Ordering::Acquire) != 0 && of_queue(portal))
    }
}
