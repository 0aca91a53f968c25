//! Goal: what would be unsound does not compile, and the compiler says what is wrong in words of the program.
//!
//! Method: each program in `compile_fail/` breaks one rule of rings, scopes or buffers, and the compiler's answer is
//! compared with the one beside it. The one that compiles shows that the others fail for their own reason. With another
//! compiler the words may differ: `TRYBUILD=overwrite` writes them anew, to be read before they are committed.
//!
//! When it speaks of buffers the compiler lists what is one, and there are more with the feature `memmap2`, which the
//! command brings in: `with_memmap2/` has the same programs, and its answers then. With `bytes` they are not compared.

#[test]
fn what_would_be_unsound_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/right.rs");
    cases.compile_fail("tests/compile_fail/scope_*.rs");
    cases.compile_fail("tests/compile_fail/operation_*.rs");
    match (cfg!(feature = "memmap2"), cfg!(feature = "bytes")) {
        (false, false) => cases.compile_fail("tests/compile_fail/buffer_*.rs"),
        (true, false) => cases.compile_fail("tests/compile_fail/with_memmap2/buffer_*.rs"),
        (_, true) => eprintln!("SKIP: the compiler lists the buffers of the crate `bytes` too"),
    }
}
