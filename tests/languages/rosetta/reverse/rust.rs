use std::io;

fn main() -> io::Result<()> {
    for line in io::stdin().lines() {
        println!("{}", line?.chars().rev().collect::<String>());
    }
    Ok(())
}
