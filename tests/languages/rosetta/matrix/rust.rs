type Matrix = Vec<Vec<u64>>;

fn product(left: &Matrix, right: &Matrix) -> Matrix {
    left.iter()
        .map(|row| {
            (0..right[0].len())
                .map(|column| row.iter().zip(right).map(|(value, other)| value * other[column]).sum())
                .collect()
        })
        .collect()
}

fn main() {
    let answer = product(
        &vec![vec![1, 2, 3], vec![4, 5, 6]],
        &vec![vec![7, 8], vec![9, 10], vec![11, 12]],
    );
    for row in answer {
        println!("{}", row.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
    }

    let step = vec![vec![1, 1], vec![1, 0]];
    let identity = vec![vec![1, 0], vec![0, 1]];
    let power = (0..70).fold(identity, |power, _| product(&power, &step));
    println!("fibonacci(70) = {}", power[0][1]);
}
