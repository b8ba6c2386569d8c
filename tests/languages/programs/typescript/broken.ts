console.log("this is never printed");
const answer: number = "forty-two"; // broken here
console.log(answer);
