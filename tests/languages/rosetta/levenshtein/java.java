import java.util.Scanner;

public class Levenshtein {
    static int distance(String source, String target) {
        int[][] cost = new int[source.length() + 1][target.length() + 1];
        for (int row = 0; row <= source.length(); row++) {
            for (int column = 0; column <= target.length(); column++) {
                if (row == 0 || column == 0) {
                    cost[row][column] = row + column;
                    continue;
                }
                int replaced = cost[row - 1][column - 1];
                if (source.charAt(row - 1) != target.charAt(column - 1)) {
                    replaced++;
                }
                int moved = Math.min(cost[row - 1][column], cost[row][column - 1]) + 1;
                cost[row][column] = Math.min(replaced, moved);
            }
        }
        return cost[source.length()][target.length()];
    }

    public static void main(String[] arguments) {
        Scanner words = new Scanner(System.in);
        while (words.hasNext()) {
            String source = words.next();
            String target = words.next();
            System.out.println(source + " " + target + " " + distance(source, target));
        }
    }
}
