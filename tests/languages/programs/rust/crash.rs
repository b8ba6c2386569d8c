fn divide(dividend: i32, divisor: i32) -> i32 {
    if divisor == 0 {
        panic!("boom");
    }
    dividend / divisor
}

fn main() {
    println!("before");
    println!("{}", divide(1, 0));
}
