fn main() {
    println!("this is never printed");
    let answer: i32 = "forty-two"; // broken here
    println!("{}", answer);
}
