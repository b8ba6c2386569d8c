import java.util.Scanner;

public class Reverse {
    public static void main(String[] arguments) {
        Scanner lines = new Scanner(System.in);
        while (lines.hasNextLine()) {
            System.out.println(new StringBuilder(lines.nextLine()).reverse());
        }
    }
}
