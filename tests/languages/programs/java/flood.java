public class Flood {
    public static void main(String[] arguments) {
        for (int number = 1; ; number++) {
            System.out.println("line " + number);
        }
    }
}
