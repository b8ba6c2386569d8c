public class Queens {
    private final int[] columns;

    Queens(int size) {
        columns = new int[size];
    }

    int solutions(int row) {
        if (row == columns.length) {
            return 1;
        }
        int found = 0;
        for (int column = 0; column < columns.length; column++) {
            if (isFree(row, column)) {
                columns[row] = column;
                found += solutions(row + 1);
            }
        }
        return found;
    }

    private boolean isFree(int row, int column) {
        for (int above = 0; above < row; above++) {
            int distance = Math.abs(columns[above] - column);
            if (distance == 0 || distance == row - above) {
                return false;
            }
        }
        return true;
    }

    public static void main(String[] arguments) {
        for (int size = 1; size <= 8; size++) {
            System.out.println(size + " queens: " + new Queens(size).solutions(0));
        }
    }
}
