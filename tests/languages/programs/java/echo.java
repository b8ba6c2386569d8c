import java.util.Scanner;

public class Echo {
    public static void main(String[] arguments) {
        for (int index = 0; index < arguments.length; index++) {
            System.out.printf("argument %d: [%s]%n", index + 1, arguments[index]);
        }
        Scanner lines = new Scanner(System.in);
        for (int number = 1; lines.hasNextLine(); number++) {
            System.out.printf("line %d: [%s]%n", number, lines.nextLine());
        }
    }
}
