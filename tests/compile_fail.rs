//! Goal: what would be unsound does not compile, and the compiler says what is wrong in words of the program.
//!
//! Method: each program in `compile_fail/` breaks one rule of rings, scopes or buffers, and the compiler's answer is
//! compared with the one beside it. The one that compiles shows that the others fail for their own reason. With another
//! compiler the words may differ: `TRYBUILD=overwrite` writes them anew, to be read before they are committed.

#[test]
fn what_would_be_unsound_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/right.rs");
    cases.compile_fail("tests/compile_fail/scope_*.rs");
    cases.compile_fail("tests/compile_fail/operation_*.rs");
    cases.compile_fail("tests/compile_fail/buffer_*.rs");
}
