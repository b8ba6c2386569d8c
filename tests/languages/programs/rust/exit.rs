use std::process;

fn main() {
    println!("leaving");
    eprintln!("so long");
    process::exit(7);
}
