fn main() {
    for number in 1u64.. {
        println!("line {}", number);
    }
}
