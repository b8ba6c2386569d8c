use std::env;
use std::io::{self, BufRead};

fn main() -> io::Result<()> {
    for (index, argument) in env::args().skip(1).enumerate() {
        println!("argument {}: [{}]", index + 1, argument);
    }
    for (index, line) in io::stdin().lock().lines().enumerate() {
        println!("line {}: [{}]", index + 1, line?);
    }
    Ok(())
}
