public class Broken {
    public static void main(String[] arguments) {
        System.out.println("this is never printed");
        int answer = "forty-two"; // broken here
        System.out.println(answer);
    }
}
