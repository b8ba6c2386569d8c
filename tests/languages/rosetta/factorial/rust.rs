use std::fmt;

/// Groups of nine digits, the least first.
struct BigNumber(Vec<u64>);

const BASE: u64 = 1_000_000_000;

impl BigNumber {
    fn multiply(&mut self, factor: u64) {
        let mut carry = 0;
        for group in &mut self.0 {
            carry += *group * factor;
            *group = carry % BASE;
            carry /= BASE;
        }
        if carry > 0 {
            self.0.push(carry);
        }
    }
}

impl fmt::Display for BigNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut groups = self.0.iter().rev();
        write!(formatter, "{}", groups.next().unwrap_or(&0))?;
        groups.try_for_each(|group| write!(formatter, "{:09}", group))
    }
}

fn main() {
    for number in [5, 25, 50] {
        let mut product = BigNumber(vec![1]);
        (2..=number).for_each(|factor| product.multiply(factor));
        println!("{}! = {}", number, product);
    }
}
