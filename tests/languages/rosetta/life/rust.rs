use std::io;

type Grid = Vec<Vec<bool>>;

fn neighbours(grid: &Grid, row: usize, column: usize) -> usize {
    let (height, width) = (grid.len(), grid[0].len());
    let mut count = 0;
    for down in [height - 1, 0, 1] {
        for right in [width - 1, 0, 1] {
            if (down, right) != (0, 0) && grid[(row + down) % height][(column + right) % width] {
                count += 1;
            }
        }
    }
    count
}

fn step(grid: &Grid) -> Grid {
    let lives = |row: usize, column: usize| match neighbours(grid, row, column) {
        3 => true,
        2 => grid[row][column],
        _ => false,
    };
    (0..grid.len()).map(|row| (0..grid[row].len()).map(|column| lives(row, column)).collect()).collect()
}

fn main() -> io::Result<()> {
    let mut grid = Grid::new();
    for line in io::stdin().lines() {
        grid.push(line?.chars().map(|cell| cell == '#').collect());
    }
    for _ in 0..12 {
        grid = step(&grid);
    }
    for row in &grid {
        println!("{}", row.iter().map(|&alive| if alive { '#' } else { '.' }).collect::<String>());
    }
    Ok(())
}
