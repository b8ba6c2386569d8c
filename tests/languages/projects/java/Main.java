public class Main {
    public static void main(String[] arguments) {
        Shape[] shapes = {new Square(3), new Circle(2)};
        for (Shape shape : shapes) {
            System.out.println(shape.describe());
        }
    }
}
