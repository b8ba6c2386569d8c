const pause = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

async function main(): Promise<never> {
  console.log("started");
  for (;;) await pause(1000);
}

main();
