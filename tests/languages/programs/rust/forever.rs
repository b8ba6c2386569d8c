use std::thread;
use std::time::Duration;

fn main() {
    println!("started");
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}
