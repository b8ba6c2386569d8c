const greet = (name: string): string => `Hello, ${name}!`;

console.log(greet("world"));
