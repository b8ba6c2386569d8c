use std::fs::{self, File};
use std::io::{self, Write};

fn main() -> io::Result<()> {
    let input = fs::read_to_string("input.txt")?;
    let mut output = File::create("output.txt")?;
    for (index, line) in input.lines().enumerate() {
        writeln!(output, "{}: {}", index + 1, line)?;
    }
    println!("{} lines", input.lines().count());
    Ok(())
}
