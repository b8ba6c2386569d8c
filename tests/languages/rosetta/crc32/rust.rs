use std::io;

const fn entry(byte: u32) -> u32 {
    let mut entry = byte;
    let mut bit = 0;
    while bit < 8 {
        entry = if entry & 1 == 1 { entry >> 1 ^ 0xEDB8_8320 } else { entry >> 1 };
        bit += 1;
    }
    entry
}

fn crc32(text: &str) -> u32 {
    !text.bytes().fold(!0, |crc, byte| crc >> 8 ^ entry((crc ^ u32::from(byte)) & 0xFF))
}

fn main() -> io::Result<()> {
    for line in io::stdin().lines() {
        println!("{:08x}", crc32(&line?));
    }
    Ok(())
}
