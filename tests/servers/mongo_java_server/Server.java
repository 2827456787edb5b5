import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

/** Runs mongo-java-server on a free port, until its standard input is closed. */
public class Server {
    /** Its own versions report wire version 8 at most, which pymongo refuses. */
    private static final MongoVersion VERSION = new MongoVersion() {
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        public int getWireVersion() {
            return 13;
        }
    };

    public static void main(String[] arguments) throws Exception {
        MongoServer server = new MongoServer(new MemoryBackend().version(VERSION));
        server.bind("127.0.0.1", 0);
        System.out.println("listening on port " + server.getLocalAddress().getPort());
        while (System.in.read() >= 0) {}
        System.exit(0);
    }
}
