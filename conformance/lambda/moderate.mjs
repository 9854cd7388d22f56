// The same review handler as moderate/main.go.
import { setTimeout } from "node:timers/promises";

export const handler = async (event) => {
  const { Content, Attributes, Sender } = event;
  if (Content === "boom") throw new Error("boom");
  if (Content === "crash") process.exit(1);
  if (Content === "slow") await setTimeout(2000);
  if (Content === "nonsense") return { ReviewResult: "PERHAPS", Content };
  if (Content === "who") return { ReviewResult: "ALLOW", Content: JSON.stringify({ ...event, Content: undefined }) };
  if (/\bspam\b/i.test(Content)) return { ReviewResult: "DENY", Content: "", Attributes: { Reason: `no spam, ${Sender.UserId}` } };
  if (Content === "bare") return { ReviewResult: "ALLOW", Content, Attributes: {} };
  if (/darn/i.test(Content)) return { ReviewResult: "ALLOW", Content: Content.replace(/darn/gi, "****"), Attributes: { ...Attributes, masked: "true" } };
  return { ReviewResult: "ALLOW", Content };
};
