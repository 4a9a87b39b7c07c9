// Reads JSON lines {secret, body, headers, now_ms} and says for each whether standardwebhooks takes it.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, body, headers, now_ms } = JSON.parse(line);
  Date.now = () => now_ms; // the test owns time
  try {
    new Webhook(secret).verify(body, headers);
    console.log("good");
  } catch (error) {
    console.log(`bad: ${error.message}`);
  }
}
