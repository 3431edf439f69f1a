// bench/Curator.java
//
// Drives ZooKeeper for the benchmark, with Curator's InterProcessMutex: an
// ephemeral sequential node; a waiter watches its predecessor.  driver.c
// describes the protocol and what is measured.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.ExponentialBackoffRetry;

public class Curator {
	static final long INVERSION_US = 5000;
	static final BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
	static final AtomicLong released = new AtomicLong();	// when the shared key was
	static List<Client> clients;
	static long pauseMs;

	interface Work {
		void run(Client client) throws Exception;
	}

	static long now() {
		return System.nanoTime() / 1000;
	}

	static class Client {
		final CuratorFramework framework;
		final InterProcessMutex mutex;
		final AtomicLong asked = new AtomicLong();	// when it began to wait, or 0
		long count;
		long inversions;
		List<Long> times = new ArrayList<>();

		Client(String key) throws Exception {
			framework = CuratorFrameworkFactory.newClient(System.getenv("ZOOKEEPER_ENDPOINT"),
					new ExponentialBackoffRetry(100, 3));
			framework.start();
			framework.blockUntilConnected();
			mutex = new InterProcessMutex(framework, key);
		}

		void pairs(long until) throws Exception {
			while (now() < until) {
				mutex.acquire();
				mutex.release();
				count++;
			}
		}

		void countInversion(long since) {
			for (Client other : clients) {
				long a = other.asked.get();
				if (a != 0 && a < since - INVERSION_US) {
					inversions++;
					return;
				}
			}
		}

		void handover(long until) throws Exception {
			while (now() < until) {
				long since = now();
				asked.set(since);
				mutex.acquire();
				long got = now();
				asked.set(0);
				if (released.get() != 0)
					times.add(got - released.get());
				count++;
				countInversion(since);
				if (got < until)
					Thread.sleep(pauseMs);
				released.set(now());
				mutex.release();
			}
		}
	}

	/** Report our state to the caller, and wait until it has been read. */
	static void report(String what) throws Exception {
		System.out.println(what);
		if (input.readLine() == null)
			System.exit(1);
	}

	static List<Thread> startAll(Work work) {
		List<Thread> threads = new ArrayList<>();
		for (Client client : clients) {
			Thread thread = new Thread(() -> {
				try {
					work.run(client);
				} catch (Exception e) {
					e.printStackTrace();
					System.exit(1);
				}
			});
			thread.start();
			threads.add(thread);
		}
		return threads;
	}

	static void inAll(Work work) throws Exception {
		for (Thread thread : startAll(work))
			thread.join();
	}

	static void printResult(long us) {
		long count = 0;
		long inversions = 0;
		StringBuilder times = new StringBuilder();
		for (Client client : clients) {
			count += client.count;
			inversions += client.inversions;
			for (long time : client.times)
				times.append(' ').append(time);
		}
		System.out.printf("%d %.6f %d%s%n", count, us / 1e6, inversions, times);
	}

	static void run(boolean pairs, long us) throws Exception {
		Work work = pairs ? c -> c.pairs(now() + us) : c -> c.handover(now() + us);
		Work warmUp = pairs ? c -> c.pairs(now() + us / 5) : c -> c.handover(now() + us / 5);
		inAll(warmUp);
		for (Client client : clients) {
			client.count = client.inversions = 0;
			client.times.clear();
		}
		released.set(0);
		report("ready");
		long start = now();
		inAll(work);
		long elapsed = now() - start;
		report("done");
		printResult(elapsed);
	}

	static void runWaiters(long us) throws Exception {
		Client holder = new Client("/bench/0");
		holder.mutex.acquire();
		List<Thread> threads = startAll(c -> {
			c.mutex.acquire();
			c.mutex.release();
		});
		Thread.sleep(pauseMs);
		report("ready");
		Thread.sleep(us / 1000);
		report("done");
		holder.mutex.release();
		for (Thread thread : threads)
			thread.join();
		holder.framework.close();
		printResult(us);
	}

	static void runCommand(String[] words) throws Exception {
		boolean pairs = words[0].equals("pairs");
		int n = Integer.parseInt(words[2]);
		long us = (long) (Double.parseDouble(words[3]) * 1e6);
		pauseMs = words.length > 4 ? Long.parseLong(words[4]) : 0;
		clients = new ArrayList<>();
		for (int i = 1; i <= n; i++)
			clients.add(new Client(pairs ? "/bench/" + i : "/bench/0"));
		if (words[0].equals("waiters"))
			runWaiters(us);
		else
			run(pairs, us);
		for (Client client : clients)
			client.framework.close();
	}

	public static void main(String[] args) throws Exception {
		String line;
		while ((line = input.readLine()) != null)
			runCommand(line.split(" "));
		System.exit(0);
	}
}
