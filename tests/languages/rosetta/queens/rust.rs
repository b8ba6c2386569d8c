fn solutions(size: usize, placed: &mut Vec<usize>) -> usize {
    let row = placed.len();
    if row == size {
        return 1;
    }
    let mut found = 0;
    for column in 0..size {
        let attacked = placed
            .iter()
            .enumerate()
            .any(|(above, &other)| other == column || other.abs_diff(column) == row - above);
        if !attacked {
            placed.push(column);
            found += solutions(size, placed);
            placed.pop();
        }
    }
    found
}

fn main() {
    for size in 1..=8 {
        println!("{} queens: {}", size, solutions(size, &mut Vec::new()));
    }
}
