// Writes objects with AWS's own S3 Encryption Client for Java: version 3 of it makes the format V2, version 4 the format V3.
// Writer ENDPOINT BUCKET KEY_ARN: lines of KEY <tab> FILE <tab> metadata|instruction|parts <tab> NAME=VALUE,... come on standard input.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.kms.KmsClient;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.encryption.s3.S3EncryptionClient;
import software.amazon.encryption.s3.internal.InstructionFileConfig;
import software.amazon.encryption.s3.materials.KmsKeyring;

public class Writer {
    public static void main(String[] arguments) throws Exception {
        URI endpoint = URI.create(arguments[0]);
        StaticCredentialsProvider keys = StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test"));
        KmsClient kms = KmsClient.builder().endpointOverride(endpoint).region(Region.US_EAST_1).credentialsProvider(keys).build();
        S3Client plain = S3Client.builder().endpointOverride(endpoint).region(Region.US_EAST_1).credentialsProvider(keys).forcePathStyle(true).build();
        S3AsyncClient async =
            S3AsyncClient.builder().endpointOverride(endpoint).region(Region.US_EAST_1).credentialsProvider(keys).forcePathStyle(true).build();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] job = line.split("\t", -1);
            Map<String, String> context = new HashMap<>();
            for (String pair : job[3].split(",")) {
                if (!pair.isEmpty()) {
                    context.put(pair.split("=")[0], pair.split("=")[1]);
                }
            }
            InstructionFileConfig where =
                job[2].equals("instruction")
                    ? InstructionFileConfig.builder().instructionFileClient(plain).enableInstructionFilePutObject(true).build()
                    : InstructionFileConfig.builder().disableInstructionFile(true).build();
            S3EncryptionClient client =
                builder()
                    .wrappedClient(plain)
                    .wrappedAsyncClient(async)
                    .keyring(KmsKeyring.builder().kmsClient(kms).wrappingKeyId(arguments[2]).build())
                    .enableMultipartPutObject(job[2].equals("parts"))
                    .instructionFileConfig(where)
                    .build();
            client.putObject(
                put ->
                    put.bucket(arguments[1])
                        .key(job[0])
                        .metadata(Map.of("colour", "blue"))
                        .contentType("text/x-test")
                        .overrideConfiguration(S3EncryptionClient.withAdditionalConfiguration(context)),
                RequestBody.fromFile(Path.of(job[1])));
        }
        System.exit(0);
    }

    /** The versions name it differently. */
    private static S3EncryptionClient.Builder builder() throws ReflectiveOperationException {
        for (String name : new String[] {"builderV4", "builder"}) {
            try {
                return (S3EncryptionClient.Builder) S3EncryptionClient.class.getMethod(name).invoke(null);
            } catch (NoSuchMethodException other) {
                continue;
            }
        }
        throw new NoSuchMethodException("builder");
    }
}
