public class Forever {
    public static void main(String[] arguments) {
        System.out.println("started");
        while (true) {
        }
    }
}
