public class Exit {
    public static void main(String[] arguments) {
        System.out.println("leaving");
        System.err.println("so long");
        System.exit(7);
    }
}
