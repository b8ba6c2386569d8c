import java.io.BufferedReader;
import java.io.InputStreamReader;

public class Life {
    static int neighbours(char[][] grid, int row, int column) {
        int height = grid.length;
        int width = grid[0].length;
        int count = 0;
        for (int down = -1; down <= 1; down++) {
            for (int right = -1; right <= 1; right++) {
                boolean self = down == 0 && right == 0;
                if (!self && grid[(row + down + height) % height][(column + right + width) % width] == '#') {
                    count++;
                }
            }
        }
        return count;
    }

    static char[][] step(char[][] grid) {
        char[][] next = new char[grid.length][grid[0].length];
        for (int row = 0; row < grid.length; row++) {
            for (int column = 0; column < grid[0].length; column++) {
                int around = neighbours(grid, row, column);
                boolean lives = around == 3 || (around == 2 && grid[row][column] == '#');
                next[row][column] = lives ? '#' : '.';
            }
        }
        return next;
    }

    public static void main(String[] arguments) {
        char[][] grid = new BufferedReader(new InputStreamReader(System.in))
                .lines()
                .map(String::toCharArray)
                .toArray(char[][]::new);
        for (int generation = 0; generation < 12; generation++) {
            grid = step(grid);
        }
        for (char[] row : grid) {
            System.out.println(row);
        }
    }
}
