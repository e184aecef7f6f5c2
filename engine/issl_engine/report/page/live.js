// While a run is under way and a server shows it: new numbers every few seconds, without a reload.

const POLL_MILLISECONDS = 2000;
const QUIET_SECONDS = 300;

function lastStep(run) {
  return Math.max(0, ...run.rows.flatMap((row) => row.seeds.map((seed) => seed.curves.step?.at(-1) ?? 0)));
}

function startLive() {
  if (!document.body.hasAttribute("data-live")) return;
  const facts = document.getElementById("facts");
  const sign = make("span", { class: "live", role: "status" });
  facts.after(sign);
  let tag = null;
  let waiting = false;
  const tell = (text, kind = "") => {
    sign.className = `live ${kind}`;
    sign.textContent = text;
  };
  const poll = async () => {
    const asked = performance.now();
    try {
      const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        const fresh = await answer.json();
        page.run = fresh.run;
        facts.textContent = fresh.facts;
        replaceResults(fresh.table);
        waiting = true;
      } else if (answer.status !== 304) throw new Error(String(answer.status));
      // Charts that are being read stay as they are for now.
      if (waiting && !document.querySelector(".chart:hover, .chart :focus, .controls :focus")) {
        waiting = false;
        fillLegend();
        changed();
      }
      if (!page.run.under_way && !waiting) {
        tell(`${page.run.status}; reload the page for maps and crops`, "done");
        return;
      }
      const quiet = Number(answer.headers.get("X-Quiet-Seconds"));
      const step = `step ${lastStep(page.run)}`;
      if (quiet > QUIET_SECONDS) tell(`no news for ${Math.round(quiet / 60)} minutes, ${step}`, "lost");
      else tell(`live, ${step}`);
    } catch {
      tell("no answer, or a file is being written; trying again", "lost");
    }
    // A long run takes a while to read: its server is busy for a tenth of the time at most.
    setTimeout(poll, Math.max(POLL_MILLISECONDS, 9 * (performance.now() - asked)));
  };
  poll();
}
