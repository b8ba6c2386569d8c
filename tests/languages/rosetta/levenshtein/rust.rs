use std::io;

fn distance(source: &str, target: &str) -> usize {
    let target: Vec<char> = target.chars().collect();
    let mut previous: Vec<usize> = (0..=target.len()).collect();
    for (row, wanted) in source.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, &found) in target.iter().enumerate() {
            let replaced = previous[column] + usize::from(wanted != found);
            current.push(replaced.min(previous[column + 1] + 1).min(current[column] + 1));
        }
        previous = current;
    }
    previous[target.len()]
}

fn main() -> io::Result<()> {
    for line in io::stdin().lines() {
        let line = line?;
        if let Some((source, target)) = line.split_once(' ') {
            println!("{} {} {}", source, target, distance(source, target));
        }
    }
    Ok(())
}
