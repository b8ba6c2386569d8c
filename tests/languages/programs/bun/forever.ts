console.log("started");
for (;;) await Bun.sleep(1000);
