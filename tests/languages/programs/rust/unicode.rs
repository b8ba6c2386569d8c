use std::fs;

fn main() -> std::io::Result<()> {
    let greeting = "Grüße, 世界 🌍";
    println!("{greeting}");
    println!("{} code points", greeting.chars().count());
    fs::write("grüße 世界.txt", format!("{greeting}\n"))
}
