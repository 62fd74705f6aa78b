//! The worker that owns the engine: says hello, then serves requests one after another.

mod protocol;

fn main() {
    console_error_panic_hook::set_once();
}
